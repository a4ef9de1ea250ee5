"""The transport over a kernel's vsock, host and guest in one process: ``run.sh loop``."""

import asyncio
import errno
import functools
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from mlxbridge.addresses import CID_ANY, Listen, VsockAddress, parse_listen
from mlxbridge.errors import TransportError
from mlxbridge.transport import vsock
from mlxbridge.transport.dial import dial, dial_blocking
from mlxbridge.transport.listen import bound_address, close_listener, listener, open_listener
from mlxbridge.transport.peers import Peer, peer_of
from tests.helpers.handed_down import start_with_sockets

Run = Callable[[Coroutine[Any, Any, None]], None]

MEBIBYTE = bytes(range(256)) * 4096
ANY_PORT = parse_listen("vsock:0")
HOST, SELF = 2, 1  # vsock_loopback answers for both, so a guest's real address works unchanged


@pytest.fixture(params=[True, False], ids=["native", "libc"], autouse=True)
def either_interpreter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test with Python's AF_VSOCK and again as if it had none."""
    assert vsock.HAS_NATIVE, "then the native half of these tests would prove nothing"
    monkeypatch.setattr(vsock, "open_socket", functools.partial(vsock.open_socket, native=request.param))


@pytest.fixture(params=[HOST, SELF])
def cid(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def opened() -> Iterator[tuple[socket.socket, int]]:
    """A listener for every CID, and its port."""
    with listener(ANY_PORT) as sock:
        yield sock, port_of(sock)


def port_of(sock: socket.socket) -> int:
    address = bound_address(sock, ANY_PORT)
    assert isinstance(address, VsockAddress)
    assert address.cid == CID_ANY
    return address.port


def receive(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (part := sock.recv(size - len(data))):
        data += part
    return bytes(data)


def test_blocking_echo_of_a_mebibyte(cid: int, opened: tuple[socket.socket, int]) -> None:
    listening, port = opened
    listening.setblocking(True)

    def echo() -> None:
        accepted, _ = listening.accept()
        with accepted:
            accepted.sendall(receive(accepted, len(MEBIBYTE)))

    thread = threading.Thread(target=echo)
    thread.start()
    with dial_blocking(VsockAddress(cid, port), 10) as sock:
        assert sock.getblocking()
        sock.sendall(MEBIBYTE)
        assert receive(sock, len(MEBIBYTE)) == MEBIBYTE
    thread.join()


def test_loop_echo_of_a_mebibyte_and_peer(run: Run, cid: int) -> None:
    async def main() -> None:
        sock = open_listener(ANY_PORT)
        peers: list[Peer] = []

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peers.append(peer_of(writer.get_extra_info("socket"), ANY_PORT))
            writer.write(await reader.readexactly(len(MEBIBYTE)))
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(echo, sock=sock)
        dialled = await dial(VsockAddress(cid, port_of(sock)), 10)
        reader, writer = await asyncio.open_connection(sock=dialled)
        assert vsock.peer_of(writer.get_extra_info("socket")) == VsockAddress(cid, port_of(sock))
        writer.write(MEBIBYTE)
        assert await reader.read(-1) == MEBIBYTE
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        close_listener(sock)
        assert [peer.cid for peer in peers] == [SELF]  # the loopback's own, whatever CID was dialled

    run(main())


def test_peer_of_an_accepted_socket(opened: tuple[socket.socket, int]) -> None:
    listening, port = opened
    with dial_blocking(VsockAddress(HOST, port), 10) as sock:
        accepted, _ = listening.accept()
        with accepted:
            peer = peer_of(accepted, ANY_PORT)
            assert peer == Peer("vsock", cid=SELF, port=vsock.bound_address(sock).port)
            assert vsock.peer_of(sock) == VsockAddress(HOST, port)


def test_both_ends_have_eight_mebibytes_of_credit(opened: tuple[socket.socket, int]) -> None:
    listening, port = opened
    with dial_blocking(VsockAddress(HOST, port), 10) as sock:
        accepted, _ = listening.accept()
        with accepted:
            for end in (sock, accepted):
                size = end.getsockopt(vsock.AF_VSOCK, vsock.SO_VM_SOCKETS_BUFFER_SIZE, 8)
                assert struct.unpack("=Q", size) == (vsock.BUFFER_BYTES,)


def test_many_small_unread_packets_do_not_lose_the_link(opened: tuple[socket.socket, int]) -> None:
    """At the default 256 KiB, kernels from 6.12.92 reset the connection at about the 455th."""
    listening, port = opened
    with dial_blocking(VsockAddress(HOST, port), 10) as sock:
        accepted, _ = listening.accept()
        with accepted:
            accepted.setblocking(True)
            for _ in range(1000):
                accepted.sendall(bytes(300))
            assert len(receive(sock, 300_000)) == 300_000


@pytest.mark.parametrize("cid_of_host", [HOST, SELF])
def test_port_without_listener_is_a_reset_with_a_reason(cid_of_host: int) -> None:
    with pytest.raises(TransportError, match=r"vsock://\d:9999: nobody listens on that port.*\[ECONNRESET\]"):
        dial_blocking(VsockAddress(cid_of_host, 9999), 10)


def test_port_without_listener_is_a_reset_on_a_loop(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TransportError, match=r"nobody listens on that port.*\[ECONNRESET\]"):
            await dial(VsockAddress(HOST, 9999), 10)

    run(main())


def test_unreachable_cid_says_why() -> None:
    with pytest.raises(TransportError, match=r"no vsock to that CID.*\[ENODEV\]"):
        dial_blocking(VsockAddress(77, 2048), 10)


def test_port_in_use_is_refused_with_a_remedy(opened: tuple[socket.socket, int]) -> None:
    with pytest.raises(TransportError, match=r"another program .* has the port.*\[EADDRINUSE\]"):
        open_listener(Listen(VsockAddress(CID_ANY, opened[1])))


def test_foreign_cid_cannot_be_listened_on() -> None:
    with pytest.raises(TransportError, match=r"none of this machine's.*\[EADDRNOTAVAIL\]"):
        open_listener(Listen(VsockAddress(77, 2048)))


def test_full_queue_ends_in_time(run: Run) -> None:
    async def main() -> None:
        with vsock.open_socket() as silent:
            vsock.bind(silent, VsockAddress(CID_ANY, 4444))
            silent.listen(0)
            began = time.monotonic()
            sockets = []
            with pytest.raises(TransportError) as caught:
                for _ in range(4):
                    sockets.append(await dial(VsockAddress(HOST, 4444), 0.5))
            for sock in sockets:
                sock.close()
            assert caught.value.__cause__ is not None
            assert time.monotonic() - began < 5

    run(main())


def test_relabelled_socket_can_be_told_from_a_unix_one() -> None:
    """The kernel knows better than the label: SO_DOMAIN is vsock's."""
    with vsock.relabel(vsock.open_socket()) as sock:
        assert sock.family == socket.AF_UNIX
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == vsock.AF_VSOCK
        assert sock.connect_ex("/nowhere") == errno.EINVAL


GREET = """\
from mlxbridge.addresses import Activation
from mlxbridge.transport.listen import open_listeners
from mlxbridge.transport.peers import peer_of
((sock, listen),) = open_listeners([Activation("systemd")])
sock.setblocking(True)
print(listen, peer_of(sock.accept()[0], listen))
"""


def test_socket_that_is_handed_down_is_known_as_vsock() -> None:
    with socket.socket(vsock.AF_VSOCK, socket.SOCK_STREAM) as listening:
        listening.bind((CID_ANY, vsock.VMADDR_PORT_ANY))
        listening.listen()
        port = vsock.bound_address(listening).port
        with dial_blocking(VsockAddress(SELF, port), 5) as guest:
            process = start_with_sockets([listening], [sys.executable, "-W", "ignore", "-c", GREET])
            printed, _ = process.communicate(timeout=60)
            assert printed == f"vsock:{port} vsock cid={SELF} port={vsock.bound_address(guest).port}\n"
