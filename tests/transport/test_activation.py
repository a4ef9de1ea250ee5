"""Sockets that a service manager hands down, each taken over in a process of its own as systemd starts one."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from mlxbridge.addresses import Activation
from mlxbridge.errors import UsageError
from mlxbridge.transport.activation import activate, take_sockets
from mlxbridge.transport.listen import open_listeners
from tests.helpers.handed_down import start_with_sockets, tcp_listener, unix_listener

TAKE = """\
import os, subprocess, sys
from mlxbridge.addresses import parse_listen_option
from mlxbridge.errors import UsageError
from mlxbridge.transport.listen import close_listener, open_listeners
try:
    opened = open_listeners([parse_listen_option(text) for text in sys.argv[1:]])
except UsageError as error:
    sys.exit(error.message)
for sock, listen in opened:
    print(listen, sock.getblocking(), os.get_inheritable(sock.fileno()))
print(*(name for name in os.environ if name.startswith("LISTEN_")), "left")
for sock, listen in opened:
    close_listener(sock)
"""


GREET = """\
from mlxbridge.addresses import Activation
from mlxbridge.transport.listen import open_listeners
from mlxbridge.transport.peers import peer_of
for sock, listen in open_listeners([Activation("systemd")]):
    sock.setblocking(True)
    print(peer_of(sock.accept()[0], listen))
"""


def take(sockets: Sequence[socket.socket], *listens: str, names: Sequence[str] = ()) -> tuple[str, str]:
    """What a process that was handed ``sockets`` prints about ``listens``, and what it fails with."""
    process = start_with_sockets(
        sockets, [sys.executable, "-c", TAKE, *listens], names=names, stderr=subprocess.PIPE
    )
    return process.communicate(timeout=60)


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with tcp_listener() as sock:
        yield sock


def test_sockets_of_all_kinds_are_told_apart_and_kept_from_children(tcp: socket.socket) -> None:
    with unix_listener() as (unix, path), tcp_listener("::1") as tcp6:
        printed, failed = take([unix, tcp, tcp6], "systemd")
        ports = tcp.getsockname()[1], tcp6.getsockname()[1]
        assert failed == ""
        assert printed.splitlines() == [
            f"unix:{path} False False",
            f"tcp:127.0.0.1:{ports[0]} False False",
            f"tcp:[::1]:{ports[1]} False False",
            "left",
        ]


def test_guests_that_wait_are_known_by_what_they_came_through(tcp: socket.socket) -> None:
    with unix_listener() as (unix, path), socket.socket(socket.AF_UNIX) as near:
        near.connect(os.fspath(path))
        with socket.create_connection(tcp.getsockname()) as far:
            process = start_with_sockets([unix, tcp], [sys.executable, "-W", "ignore", "-c", GREET])
            printed, _ = process.communicate(timeout=60)
            port = far.getsockname()[1]
    ids = f"uid={os.getuid()} gid={os.getgid()} pid={os.getpid()}"
    assert printed.splitlines() == [f"unix {ids}", f"tcp host=127.0.0.1 port={port}"]


def test_socket_and_its_file_outlive_the_process_that_closed_it() -> None:
    with unix_listener() as (unix, path):
        assert take([unix], "systemd")[1] == ""
        assert path.is_socket()
        with socket.socket(socket.AF_UNIX) as guest:
            guest.connect(os.fspath(path))
            unix.settimeout(5)
            unix.accept()[0].close()


def test_names_choose_among_sockets(tcp: socket.socket) -> None:
    with unix_listener() as (unix, path):
        printed, failed = take([tcp, unix], "systemd:local", "systemd:net", names=["net", "local"])
        assert failed == ""
        assert f"unix:{path} " in printed
        assert "tcp:127.0.0.1:" in printed


def test_other_listeners_are_bound_beside_those_handed_down(tmp_path: Path) -> None:
    with unix_listener() as (unix, path):
        printed, failed = take([unix], "tcp:127.0.0.1:0", "systemd")
        assert failed == ""
        assert printed.startswith(f"unix:{path} False False\ntcp:127.0.0.1:0 ")


@pytest.mark.parametrize(
    ("listens", "names", "problem"),
    [
        (["systemd:c"], ["a", "b"], "cannot listen on systemd:c: systemd handed down a, b;"),
        (["systemd:a"], ["a", "b"], "no --listen takes the socket b that systemd hands down"),
        (["systemd:a"], ["", "a"], "no --listen takes the socket unknown that"),
        (["launchd:bridge"], ["a", "b"], "launchd is the service manager of macOS; on Linux use systemd"),
    ],
)
def test_wrong_name_is_refused_with_the_right_ones(
    tcp: socket.socket, listens: list[str], names: list[str], problem: str
) -> None:
    with unix_listener() as (unix, _):
        assert problem in take([unix, tcp], *listens, names=names)[1]


def connected() -> socket.socket:
    here, there = socket.socketpair()
    there.close()
    return here


def bound_only() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


def datagrams() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.mark.parametrize("make", [connected, bound_only, datagrams])
def test_what_does_not_listen_for_streams_is_refused(make: Callable[[], socket.socket]) -> None:
    with make() as sock:
        assert (
            "descriptor 3 does not listen for streams: let the socket unit say" in take([sock], "systemd")[1]
        )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has sockets with a name and no file")
def test_abstract_socket_is_refused() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0mlxbridge-test-{os.getpid()}")
        sock.listen()
        assert "let it be a unix socket with a file, TCP or vsock" in take([sock], "systemd")[1]


def test_without_systemd_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with pytest.raises(
        UsageError, match=r"cannot listen on systemd:a: .* no socket down; use mlxbridge-host"
    ):
        open_listeners([Activation("systemd", "a")])


def test_sockets_of_another_process_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    with pytest.raises(
        UsageError, match=f"are for process {os.getppid()}, and this is {os.getpid()}: let Exec"
    ):
        take_sockets([Activation("systemd")])
    assert "LISTEN_FDS" not in os.environ


@pytest.fixture(scope="module")
def fake_launchd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("launchd") / "libfake_launchd.so"
    source = Path(__file__).with_name("fake_launchd.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    return library


def test_launchd_is_asked_once_for_all_sockets_of_a_name(fake_launchd: Path) -> None:
    library = ctypes.CDLL(os.fspath(fake_launchd))
    fds = (ctypes.c_int * 2).in_dll(library, "fake_fds")
    fds[:] = [70, 71]
    for name, expected in ("wrong", errno.ENOENT), ("bridge", None), ("bridge", errno.EALREADY):
        if expected is None:
            assert activate(name, library) == [70, 71]
        else:
            with pytest.raises(OSError) as caught:
                activate(name, library)
            assert caught.value.errno == expected
