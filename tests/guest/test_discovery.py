from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from mlxbridge import AsyncClient, Client
from mlxbridge.addresses import TcpAddress, UnixAddress
from mlxbridge.errors import HandshakeTimeout, HostNotFound, TransportError, UsageError
from mlxbridge.guest import discovery
from mlxbridge.guest.discovery import Lookups, Place, Search
from mlxbridge.protocol import parse_token
from tests.guest.script_host import script_host


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "MLXBRIDGE_URL",
        "MLXBRIDGE_TOKEN",
        "MLXBRIDGE_TOKEN_FILE",
        "XDG_RUNTIME_DIR",
        "MLXBRIDGE_TRY_GATEWAY",
    ):
        monkeypatch.delenv(name, raising=False)


class Resolver:
    """Answers for host names at once, or never."""

    def __init__(self) -> None:
        self.hosts: dict[str, list[str] | None] = {}

    def look_up(self, host: str, port: int) -> Future[Any]:
        found: Future[Any] = Future()
        addresses = self.hosts.get(host, [])
        if addresses:
            found.set_result([(socket.AF_INET, (address, port)) for address in addresses])
        elif addresses is not None:
            found.set_exception(socket.gaierror(socket.EAI_NONAME, "no such name"))
        return found


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver()
    monkeypatch.setattr("mlxbridge.transport.names.look_up", resolver.look_up)
    return resolver


@pytest.fixture
def nothing_usual(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, resolver: Resolver) -> Path:
    monkeypatch.setattr(discovery, "usual_sockets", lambda: [str(tmp_path / "a"), str(tmp_path / "b")])
    return tmp_path


def look(search: Search) -> tuple[list[Place], list[Lookups]]:
    places, lookups = [], []
    for place in search.places():
        if isinstance(place, Lookups):
            lookups.append(place)
        else:
            places.append(place)
    return places, lookups


def test_argument_wins_over_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXBRIDGE_URL", "tcp://a:1,tcp://b:2")
    assert look(Search("unix:///x")) == ([Place(UnixAddress("/x"))], [])
    assert look(Search(None)) == ([Place(TcpAddress("a", 1)), Place(TcpAddress("b", 2))], [])


def test_places_come_in_their_order_and_each_says_why_it_need_not_be_tried(
    nothing_usual: Path, resolver: Resolver
) -> None:
    (nothing_usual / "a").write_text("a file")
    resolver.hosts = {"host.lima.internal": ["192.168.5.2", "192.168.5.3"], "host.orb.internal": None}
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(nothing_usual / "b"))
        places, (lookups,) = look(Search(None))
    outcomes = [(str(place), place.failure and place.failure.message) for place in places]
    assert outcomes == [
        (f"unix://{nothing_usual}/a", "there is no such socket"),
        (f"unix://{nothing_usual}/b", None),
        *([("vsock://2:2048", None)] if sys.platform == "linux" else []),
        ("tcp://host.docker.internal:2048", "there is no such name here"),
        ("tcp://host.containers.internal:2048", "there is no such name here"),
        ("tcp://host.container.internal:2048", "there is no such name here"),
        ("tcp://192.168.5.2:2048 (host.lima.internal)", None),
        ("tcp://192.168.5.3:2048 (host.lima.internal)", None),
        ("tcp://host.orb.internal:2048", "the look-up of the name took too long"),
    ]
    assert set(lookups.found) == set(discovery.HOST_NAMES)


def test_all_unnamed_places_together_have_three_seconds(
    nothing_usual: Path, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(discovery, "monotonic", lambda: now)
    resolver.hosts = {name: ["10.0.0.1"] for name in discovery.HOST_NAMES}
    spent = 0.0
    for place in Search(None).places():
        if isinstance(place, Place) and place.failure is not None:
            continue
        assert place.within_s is not None
        spent += place.within_s
        now += place.within_s  # nobody answers, anywhere
    assert spent == pytest.approx(discovery.SEARCH_S)


def test_the_gateway_is_tried_only_if_asked_for(
    nothing_usual: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    routes = tmp_path / "route"
    gateway = bytes([192, 168, 64, 1])[:: 1 if sys.byteorder == "big" else -1].hex().upper()
    routes.write_text(f"Iface Destination Gateway\neth0 0040A8C0 00000000\neth0 00000000 {gateway} 0003\n")
    monkeypatch.setattr(discovery, "_ROUTES", str(routes))
    assert "gateway" not in str(look(Search(None))[0][-1])
    monkeypatch.setenv("MLXBRIDGE_TRY_GATEWAY", "1")
    assert str(look(Search(None))[0][-1]) == "tcp://192.168.64.1:2048 (the default gateway)"
    routes.write_text("Iface Destination Gateway\n")
    failure = look(Search(None))[0][-1].failure
    assert failure is not None and failure.message == "there is none"


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_nothing_found_says_where_and_what_to_do(nothing_usual: Path, resolver: Resolver, kind: str) -> None:
    resolver.hosts = {"host.docker.internal": ["127.0.0.1"]}  # nobody listens on the port there
    with pytest.raises(HostNotFound) as caught:
        ping(kind)
    assert "MLXBRIDGE_URL is not set" in caught.value.message
    assert f"unix://{nothing_usual}/a: there is no such socket" in caught.value.message
    assert "host.orb.internal:2048: there is no such name here" in caught.value.message
    for runtime in ("Apple container", "docker run", "podman", "Lima", "virtio-vsock"):
        assert runtime in caught.value.message


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_a_socket_that_never_says_hello_does_not_keep_a_host_from_being_found(
    nothing_usual: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(discovery, "_SOCKET_S", 1.0)
    monkeypatch.setattr(discovery, "SEARCH_S", 60.0)
    with (
        socket.socket(socket.AF_UNIX) as dead,
        script_host(str(nothing_usual / "b"), lambda connection, event: None),
    ):
        dead.bind(str(nothing_usual / "a"))
        dead.listen()  # a relay whose host has gone takes connections, and no more
        assert ping(kind) == f"unix://{nothing_usual}/b"


@pytest.fixture
def silent(path: str) -> Iterator[str]:
    """Takes connections, and says nothing."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}.silent")
        listener.listen()
        yield f"unix://{path}.silent"


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_named_place_that_stays_silent_leaves_time_for_the_next(silent: str, path: str, kind: str) -> None:
    with script_host(path, lambda connection, event: None) as host:
        assert ping(kind, f"{silent},{host.url}", timeout=2.0) == host.url


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_each_named_place_has_its_reason_when_the_time_is_up(silent: str, path: str, kind: str) -> None:
    with pytest.raises(HostNotFound) as caught:
        ping(kind, f"unix://{path}.none,{silent}", timeout=0.3)
    assert "there is no such file" in caught.value.message
    assert "did not say HELLO within 0." in caught.value.message
    assert caught.value.retryable


@pytest.mark.parametrize("kind", ["blocking", "async"])
def test_ping_heeds_the_clients_timeout(silent: str, kind: str) -> None:
    start = monotonic()
    with pytest.raises(HandshakeTimeout, match="HELLO within 0."):
        ping(kind, silent, timeout=0.2)
    assert monotonic() - start < 4, "it took its own 5 s"


def test_usual_places_share_a_short_timeout(
    nothing_usual: Path, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(discovery, "monotonic", lambda: now)
    monkeypatch.setattr(discovery, "_is_socket", lambda path: path.endswith("a"))
    resolver.hosts = {name: ["10.0.0.1"] for name in discovery.HOST_NAMES}
    spent = []
    for place in Search(None).places(100.3):
        if isinstance(place, Place) and place.failure is None:
            assert place.within_s is not None
            spent.append(place.within_s)
            now += place.within_s
    assert spent[0] == pytest.approx(0.2) and sum(spent) == pytest.approx(0.3)


def ping(kind: str, url: str | None = None, timeout: float | None = None) -> str:
    if kind == "blocking":
        with Client(url, timeout=timeout) as client:
            client.ping()
            return client.address or ""

    async def ping_async() -> str:
        async with AsyncClient(url, timeout=timeout) as client:
            await client.ping()
            return client.address or ""

    return asyncio.run(ping_async())


def test_token_comes_from_argument_environment_or_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert discovery.find_token(None) is None
    file = tmp_path / "token"
    file.write_text("file:secret-in-file\n")
    monkeypatch.setenv("MLXBRIDGE_TOKEN_FILE", str(file))
    assert discovery.find_token(None) == parse_token("file:secret-in-file")
    monkeypatch.setenv("MLXBRIDGE_TOKEN", "secret-in-env")
    assert discovery.find_token(None) == parse_token("default:secret-in-env")
    assert discovery.find_token("me:secret-given") == parse_token("me:secret-given")
    assert discovery.find_token("") is None


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_token_file_without_token_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("MLXBRIDGE_TOKEN_FILE", str(file))
    with pytest.raises(UsageError, match="MLXBRIDGE_TOKEN_FILE"):
        discovery.find_token(None)


def test_one_failure_is_given_as_it_is_several_are_listed() -> None:
    one, other = TransportError("no"), TransportError("never")
    assert Search("unix:///a").nothing_answered([(Place(UnixAddress("/a")), one)]) is one
    both = Search("unix:///a,tcp://b:1").nothing_answered(
        [(Place(UnixAddress("/a")), one), (Place(TcpAddress("b", 1)), other)]
    )
    assert "unix:///a: no" in both.message
    assert "tcp://b:1: never" in both.message
