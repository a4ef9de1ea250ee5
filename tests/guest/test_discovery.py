from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxbridge.addresses import TcpAddress, UnixAddress
from mlxbridge.errors import HostNotFound, TransportError, UsageError
from mlxbridge.guest import discovery
from mlxbridge.protocol import parse_token


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLXBRIDGE_URL", "MLXBRIDGE_TOKEN", "MLXBRIDGE_TOKEN_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def nothing_usual(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setattr(discovery, "usual_sockets", lambda: [str(tmp_path / "a"), str(tmp_path / "b")])
    yield tmp_path


def test_argument_wins_over_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXBRIDGE_URL", "tcp://a:1,tcp://b:2")
    assert discovery.find_addresses("unix:///x") == (UnixAddress("/x"),)
    assert discovery.find_addresses(None) == (TcpAddress("a", 1), TcpAddress("b", 2))


def test_usual_sockets_are_taken_if_they_are_sockets(nothing_usual: Path) -> None:
    (nothing_usual / "a").write_text("a file")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(nothing_usual / "b"))
        assert discovery.find_addresses(None) == (UnixAddress(str(nothing_usual / "b")),)


def test_nothing_found_says_what_to_do(nothing_usual: Path) -> None:
    with pytest.raises(HostNotFound, match="mlxbridge-host serve"):
        discovery.find_addresses(None)


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
    one = TransportError("no")
    assert discovery.nothing_answered([(UnixAddress("/a"), one)]) is one
    both = discovery.nothing_answered(
        [(UnixAddress("/a"), one), (TcpAddress("b", 1), TransportError("never"))]
    )
    assert "unix:///a: no" in both.message
    assert "tcp://b:1: never" in both.message
