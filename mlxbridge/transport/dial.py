"""Connect to a host address, with or without an event loop.

Both ways start each connect on a non-blocking socket and wait until it is writable, so that they share the
sockets, the deadlines and the errors. Neither uses ``loop.sock_connect``: under uvloop it resolves a vsock
address as a host name.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from mlxbridge.addresses import Address, TcpAddress, UnixAddress, VsockAddress
from mlxbridge.errors import UsageError
from mlxbridge.transport import names, vsock
from mlxbridge.transport.buffers import widen_unix
from mlxbridge.transport.reasons import dialling, looking_up

if TYPE_CHECKING:
    from collections.abc import Sequence

# A unix connect to a full accept queue fails at once with EAGAIN on Linux; nothing announces a free place.
_FULL_QUEUE_RETRY_S = 0.01


class _Route(NamedTuple):
    """One way to an address: the family of its socket and where to connect that."""

    family: int
    target: Any  # as socket.connect takes it; a VsockAddress for AF_VSOCK

    def open(self) -> socket.socket:
        if self.family == vsock.AF_VSOCK:
            return vsock.open_socket()
        sock = socket.socket(self.family, socket.SOCK_STREAM)
        sock.setblocking(False)
        if self.family == socket.AF_UNIX:
            widen_unix(sock)
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def start(self, sock: socket.socket) -> int:
        """Start or repeat the connect; 0 or an errno."""
        if self.family == vsock.AF_VSOCK:
            return vsock.connect_ex(sock, self.target)
        return sock.connect_ex(self.target)


def dial_blocking(address: Address, timeout: float) -> socket.socket:
    """Connect a blocking socket.

    Args:
        address: whom to connect to; each result of a name gets an equal share of the time that is left.
        timeout: seconds for everything, the name's look-up included. On vsock the kernel gives up after 2.

    Returns:
        The connected socket in blocking mode, TCP_NODELAY set on TCP; on vsock it is labelled AF_UNIX.

    Raises:
        TransportError: address, reason and remedy, from the OSError of the last attempt.
        UsageError: vsock from anything but Linux.
    """
    deadline = time.monotonic() + timeout
    with dialling(address):
        routes = _routes(address)
        if isinstance(address, TcpAddress) and not routes:
            with looking_up(address):
                routes = _tcp_routes(names.look_up(address.host, address.port).result(timeout))
        failure = OSError(errno.EADDRNOTAVAIL, "the host name has no address")
        for index, route in enumerate(routes):
            now = time.monotonic()
            try:
                sock = _connect_blocking(route, now + (deadline - now) / (len(routes) - index))
            except OSError as exc:
                failure = exc
            else:
                sock.setblocking(True)
                return sock
        raise failure


async def dial(address: Address, timeout: float) -> socket.socket:
    """Connect a socket for ``loop.create_connection(factory, sock=…)``, on asyncio's own loop or uvloop.

    Cancelling is safe: the socket is closed.

    Args:
        address: whom to connect to; each result of a name gets an equal share of the time that is left.
        timeout: seconds for everything, the name's look-up included. On vsock the kernel gives up after 2.

    Returns:
        The connected socket, non-blocking, TCP_NODELAY set on TCP; on vsock it is labelled AF_UNIX.

    Raises:
        TransportError: address, reason and remedy, from the OSError of the last attempt.
        UsageError: vsock from anything but Linux.
    """
    import asyncio  # a caller of this has it already; one of dial_blocking need not

    deadline = time.monotonic() + timeout
    with dialling(address):
        routes = _routes(address)
        if isinstance(address, TcpAddress) and not routes:
            found = asyncio.wrap_future(names.look_up(address.host, address.port))
            with looking_up(address):
                async with asyncio.timeout(timeout):
                    routes = _tcp_routes(await found)
        failure = OSError(errno.EADDRNOTAVAIL, "the host name has no address")
        for index, route in enumerate(routes):
            share = (deadline - time.monotonic()) / (len(routes) - index)
            try:
                async with asyncio.timeout(share):
                    return await _connect(route)
            except OSError as exc:
                failure = exc
        raise failure


def _routes(address: Address) -> Sequence[_Route]:
    """The ways to an address; none for a name, which must be looked up first."""
    match address:
        case UnixAddress(path):
            return [_Route(socket.AF_UNIX, path)]
        case TcpAddress(host, port):
            return _tcp_routes(names.literal(host, port))
        case VsockAddress():
            if sys.platform != "linux":
                raise UsageError(f"{address}: only a Linux guest can dial vsock; here use unix:// or tcp://")
            return [_Route(vsock.AF_VSOCK, address)]


def _tcp_routes(found: names.Found) -> Sequence[_Route]:
    return [_Route(family, target) for family, target in found]


def _connect_blocking(route: _Route, deadline: float) -> socket.socket:
    sock = route.open()
    try:
        while (code := route.start(sock)) == errno.EAGAIN and time.monotonic() < deadline:
            time.sleep(_FULL_QUEUE_RETRY_S)
        if code == errno.EINPROGRESS:
            with selectors.DefaultSelector() as selector:
                selector.register(sock, selectors.EVENT_WRITE)
                ready = selector.select(max(0.0, deadline - time.monotonic()))
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if ready else errno.ETIMEDOUT
        return _connected(route, sock, code)
    except BaseException:
        sock.close()
        raise


async def _connect(route: _Route) -> socket.socket:
    import asyncio

    sock = route.open()
    try:
        while (code := route.start(sock)) == errno.EAGAIN:  # noqa: ASYNC110 (nothing announces a place)
            await asyncio.sleep(_FULL_QUEUE_RETRY_S)
        if code == errno.EINPROGRESS:
            await _writable(sock.fileno())
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return _connected(route, sock, code)
    except BaseException:
        sock.close()
        raise


async def _writable(fd: int) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def fire() -> None:
        if not ready.done():  # level-triggered: a second call may come before the task runs
            ready.set_result(None)

    loop.add_writer(fd, fire)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _connected(route: _Route, sock: socket.socket, code: int) -> socket.socket:
    if code == errno.EAGAIN:
        code = errno.ETIMEDOUT
    if code:
        raise OSError(code, os.strerror(code))
    return vsock.relabel(sock) if route.family == vsock.AF_VSOCK else sock
