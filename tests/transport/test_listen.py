import asyncio
import contextlib
import errno
import os
import socket
import stat
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.addresses import Listen, TcpAddress, UnixAddress, parse_listen
from mlxbridge.errors import TransportError, UsageError
from mlxbridge.transport import listen as listen_module
from mlxbridge.transport.dial import dial, dial_blocking
from mlxbridge.transport.listen import bound_address, close_listener, listener, open_listener

Run = Callable[[Coroutine[Any, Any, None]], None]


def unix(path: Path, mode: int | None = None) -> Listen:
    return Listen(UnixAddress(str(path)), mode)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def leave_stale_file(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def test_missing_folder_is_made_private_and_the_socket_open_inside(folder: Path) -> None:
    path = folder / "run" / "s"
    with listener(unix(path)):
        assert mode_of(path.parent) == 0o700
        assert mode_of(path) == 0o666


@pytest.mark.parametrize(
    ("folder_mode", "asked", "expected"),
    [
        (0o700, None, 0o666),
        (0o710, None, 0o600),
        (0o755, None, 0o600),
        (0o1777, None, 0o600),
        (0o755, 0o666, 0o666),
        (0o700, 0o600, 0o600),
    ],
)
def test_file_mode_is_asked_for_or_safe(
    folder: Path, folder_mode: int, asked: int | None, expected: int
) -> None:
    folder.chmod(folder_mode)
    with listener(unix(folder / "s", asked)):
        assert mode_of(folder / "s") == expected
        assert mode_of(folder) == folder_mode & 0o777 | folder_mode & 0o1000


def test_file_mode_does_not_depend_on_the_umask(folder: Path) -> None:
    before = os.umask(0o777)
    try:
        sock = open_listener(unix(folder / "s"))
    finally:
        os.umask(before)
    assert mode_of(folder / "s") == 0o666
    close_listener(sock)


def test_stale_file_is_replaced(folder: Path) -> None:
    leave_stale_file(folder / "s")
    with listener(unix(folder / "s")), dial_blocking(UnixAddress(str(folder / "s")), 5):
        pass


def test_live_file_is_left_alone(folder: Path) -> None:
    with listener(unix(folder / "s")) as first:
        with pytest.raises(TransportError, match=r"another program \(or another mlxbridge\) listens there"):
            open_listener(unix(folder / "s"))
        first.accept()[0].close()  # the probe
        dial_blocking(UnixAddress(str(folder / "s")), 5).close()


@pytest.mark.skipif(
    sys.platform != "linux", reason="macOS refuses there, which is why it is asked several times"
)
def test_live_file_with_a_full_queue_is_left_alone(folder: Path) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(TransportError, match="another program"):
            open_listener(unix(path))
        assert path.is_socket()


def test_live_datagram_socket_is_left_alone(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(folder / "s"))
        with pytest.raises(TransportError, match="another program"):
            open_listener(unix(folder / "s"))


@pytest.mark.parametrize("kind", ["file", "folder", "symbolic link"])
def test_anything_but_a_socket_is_never_removed(folder: Path, kind: str) -> None:
    path = folder / "s"
    match kind:
        case "file":
            path.write_text("mine")
        case "folder":
            path.mkdir()
        case _:
            leave_stale_file(folder / "target")
            path.symlink_to(folder / "target")
    before = path.lstat()
    with pytest.raises(UsageError, match=f"a {kind} is there"):
        open_listener(unix(path))
    assert path.lstat() == before


def test_of_many_hosts_on_one_stale_file_exactly_one_wins(folder: Path) -> None:
    leave_stale_file(folder / "s")
    start = threading.Barrier(8)
    won: list[socket.socket] = []

    def host() -> None:
        start.wait()
        with contextlib.suppress(TransportError):
            won.append(open_listener(unix(folder / "s")))

    threads = [threading.Thread(target=host) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    dial_blocking(UnixAddress(str(folder / "s")), 5).close()
    close_listener(won[0])


def test_closing_removes_the_file_once(folder: Path) -> None:
    sock = open_listener(unix(folder / "s"))
    close_listener(sock)
    assert not (folder / "s").exists()
    (folder / "s").write_text("somebody else's")
    close_listener(sock)
    assert (folder / "s").exists()


def test_closing_leaves_the_file_of_another_host(folder: Path) -> None:
    first = open_listener(unix(folder / "s"))
    (folder / "s").unlink()
    with listener(unix(folder / "s")):
        close_listener(first)
        dial_blocking(UnixAddress(str(folder / "s")), 5).close()


def test_closing_leaves_another_file_that_got_the_same_inode(folder: Path) -> None:
    first = open_listener(unix(folder / "s"))
    assert isinstance(first, listen_module.UnixListener)
    assert first.file_id is not None
    device, inode, changed = first.file_id
    first.file_id = (device, inode, changed - 1)
    close_listener(first)
    assert (folder / "s").exists()


def test_failed_listen_leaves_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, mode: int) -> None:
        raise PermissionError(errno.EPERM, "no chmod here")

    monkeypatch.setattr(os, "chmod", refuse)
    with pytest.raises(TransportError, match="no chmod here"):
        open_listener(unix(folder / "s"))
    assert list(folder.iterdir()) == []


def test_folder_that_is_a_file_is_named(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(TransportError, match=f"cannot listen on unix:{folder}/file/s: "):
        open_listener(unix(folder / "file" / "s"))


def test_unix_listener_serves_and_keeps_its_file_until_closed(run: Run, folder: Path) -> None:
    """Neither loop may unlink the file itself, as create_unix_server does."""

    async def main() -> None:
        sock = open_listener(unix(folder / "s"))
        served = asyncio.Event()
        server = await asyncio.get_running_loop().create_server(lambda: Greeter(served), sock=sock)
        (await dial(UnixAddress(str(folder / "s")), 5)).close()
        await served.wait()
        server.close()
        await server.wait_closed()
        assert (folder / "s").is_socket()
        close_listener(sock)
        assert not (folder / "s").exists()

    run(main())


class Greeter(asyncio.Protocol):
    """Notes that it was connected, and hangs up."""

    def __init__(self, served: asyncio.Event) -> None:
        self.served = served

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.served.set()


@pytest.mark.parametrize("text", ["tcp:127.0.0.1:0", "tcp:[::1]:0", "tcp:localhost:0"])
def test_tcp_port_zero_reports_the_real_one(text: str) -> None:
    listen = parse_listen(text)
    with listener(listen) as sock:
        address = bound_address(sock, listen)
        assert isinstance(address, TcpAddress)
        assert address.port > 0
        assert not sock.getblocking()
        dial_blocking(address, 5).close()


def test_tcp_name_prefers_ipv4() -> None:
    listen = parse_listen("tcp:localhost:0")
    with listener(listen) as sock:
        assert str(bound_address(sock, listen)).startswith("tcp://127.0.0.1:")


def test_tcp_wildcard_six_takes_ipv4_too() -> None:
    listen = parse_listen("tcp:[::]:0")
    with listener(listen) as sock:
        address = bound_address(sock, listen)
        assert isinstance(address, TcpAddress)
        dial_blocking(TcpAddress("127.0.0.1", address.port), 5).close()


def test_tcp_port_in_use_is_refused_with_a_remedy() -> None:
    listen = parse_listen("tcp:127.0.0.1:0")
    with listener(listen) as sock:
        taken = Listen(bound_address(sock, listen))
        with pytest.raises(TransportError, match=r"another program .* has the port"):
            open_listener(taken)


def test_tcp_port_can_be_reused_at_once() -> None:
    listen = parse_listen("tcp:127.0.0.1:0")
    with listener(listen) as sock:
        address = bound_address(sock, listen)
        with dial_blocking(address, 5):
            sock.accept()[0].close()  # this end closes first and stays in TIME_WAIT
    open_listener(Listen(address)).close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [("tcp:192.0.2.1:0", "none of this machine's"), ("tcp:no-such-host.invalid:0", "no address")],
)
def test_tcp_foreign_address_is_refused_with_a_remedy(text: str, reason: str) -> None:
    with pytest.raises(TransportError, match=reason):
        open_listener(parse_listen(text))


def test_vsock_on_macos_points_to_the_monitors_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(
        UsageError, match=r"vfkit and krunkit .*port=2048,socketURL=PATH.*Apple container with -v"
    ):
        open_listener(parse_listen("vsock:2048"))


def test_accepted_tcp_sockets_are_probed_while_they_are_silent() -> None:
    with listener(Listen(TcpAddress("127.0.0.1", 0))) as sock:
        address = bound_address(sock, Listen(TcpAddress("127.0.0.1", 0)))
        with dial_blocking(address, 5), sock.accept()[0] as accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize(("suffix", "expected"), [("", 0o700), ("?mode=0600", 0o700), ("?mode=0666", 0o755)])
def test_folder_that_is_made_is_as_open_as_the_socket_was_asked_to_be(
    folder: Path, suffix: str, expected: int
) -> None:
    with listener(parse_listen(f"unix:{folder}/new/s{suffix}")):
        assert (folder / "new").stat().st_mode & 0o777 == expected
