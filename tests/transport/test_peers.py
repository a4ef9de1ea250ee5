import asyncio
import os
import socket
import struct
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.addresses import Listen, UnixAddress, parse_listen
from mlxbridge.transport.dial import dial, dial_blocking
from mlxbridge.transport.listen import bound_address, close_listener, listener, open_listener
from mlxbridge.transport.peers import Peer, peer_of

Run = Callable[[Coroutine[Any, Any, None]], None]

VSOCK = parse_listen("vsock:2048")
UNIX = Listen(UnixAddress("/x"))


class FakeSocket:
    """A socket of another system: its options and its peer's name by hand."""

    def __init__(self, options: dict[tuple[int, int], bytes] | None = None, name: object = None) -> None:
        self.options, self.name = options or {}, name

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        try:
            value = self.options[level, option]
        except KeyError:
            raise OSError("no such option") from None
        assert len(value) == size
        return value

    def getpeername(self) -> object:
        if self.name is None:
            raise OSError("not connected")
        return self.name


@pytest.mark.parametrize("text", ["unix", "tcp:127.0.0.1:0", "tcp:[::]:0"])
def test_peer_of_an_accepted_socket(text: str, folder: Path) -> None:
    listen = Listen(UnixAddress(f"{folder}/s")) if text == "unix" else parse_listen(text)
    with listener(listen) as sock, dial_blocking(bound_address(sock, listen), 5) as dialled:
        accepted, _ = sock.accept()
        with accepted:
            check(peer_of(accepted, listen), text, dialled)


@pytest.mark.parametrize("text", ["unix", "tcp:127.0.0.1:0"])
def test_peer_of_a_loops_view(run: Run, text: str, folder: Path) -> None:
    async def main() -> None:
        listen = Listen(UnixAddress(f"{folder}/s")) if text == "unix" else parse_listen(text)
        sock = open_listener(listen)
        seen = asyncio.get_running_loop().create_future()

        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.set_result(peer_of(writer.get_extra_info("socket"), listen))
            writer.close()

        server = await asyncio.start_server(serve, sock=sock)
        with await dial(bound_address(sock, listen), 5) as dialled:
            check(await seen, text, dialled)
        server.close()
        await server.wait_closed()
        close_listener(sock)

    run(main())


def check(peer: Peer, text: str, dialled: socket.socket) -> None:
    if text == "unix":
        assert peer == Peer("unix", uid=os.getuid(), gid=os.getgid(), pid=os.getpid())
        assert str(peer) == f"unix uid={os.getuid()} gid={os.getgid()} pid={os.getpid()}"
    else:
        host, port = dialled.getsockname()[:2]
        assert peer == Peer("tcp", host=host, port=port)
        assert str(peer) == f"tcp host={host} port={port}"


def test_mapped_ipv4_is_written_as_ipv4() -> None:
    listen = parse_listen("tcp:[::]:0")
    assert peer_of(FakeSocket(name=("::ffff:10.0.0.7", 5, 0, 0)), listen) == Peer(
        "tcp", host="10.0.0.7", port=5
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the option is Linux's")
def test_linux_process_of_another_pid_namespace_has_no_pid() -> None:
    sock = FakeSocket({(socket.SOL_SOCKET, socket.SO_PEERCRED): struct.pack("=iII", 0, 501, 20)})
    assert peer_of(sock, UNIX) == Peer("unix", uid=501, gid=20)


@pytest.mark.parametrize("pid", [None, 77])
def test_macos_credentials(monkeypatch: pytest.MonkeyPatch, pid: int | None) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    options = {(0, 1): struct.pack("=IIh2x16I", 0, 501, 2, 20, 12, *[0] * 14)}
    if pid:
        options[0, 2] = struct.pack("=i", pid)
    assert peer_of(FakeSocket(options), UNIX) == Peer("unix", uid=501, gid=20, pid=pid)


def test_vsock_peer_from_either_kind_of_interpreter() -> None:
    raw = struct.pack("=HIIB3x", 0, 1025, 3, 0)
    for name in ((3, 1025), (40, raw)):
        peer = peer_of(FakeSocket(name=name), VSOCK)
        assert peer == Peer("vsock", cid=3, port=1025)
        assert str(peer) == "vsock cid=3 port=1025"


@pytest.mark.parametrize("listen", [UNIX, VSOCK, parse_listen("tcp:127.0.0.1:0")], ids=str)
def test_peer_that_has_gone_is_unknown(listen: Listen) -> None:
    transport = str(peer_of(FakeSocket(), listen))
    assert transport in ("unix", "vsock", "tcp")
