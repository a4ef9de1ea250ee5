"""AF_VSOCK sockets on Linux, with or without an interpreter that knows them.

Two obstacles shape this file. Python builds made on old kernel headers (uv's until June 2026) have no
``socket.AF_VSOCK``, so the calls that carry a ``sockaddr_vm`` can also go through libc. And uvloop takes
every socket that is not AF_UNIX for TCP and sets TCP_NODELAY, which vsock refuses; an accepted connection
is then dropped without a word. ``relabel`` is the cure: Python's label on the descriptor says AF_UNIX, the
kernel still knows what it is, and reading and writing are the same.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Protocol

from mlxbridge.addresses import VsockAddress

if TYPE_CHECKING:
    import ctypes

# linux/socket.h and linux/vm_sockets.h: numbers, because macOS and the Python builds above lack the names.
AF_VSOCK = 40
SO_VM_SOCKETS_BUFFER_SIZE = 0
SO_VM_SOCKETS_BUFFER_MAX_SIZE = 2
VMADDR_PORT_ANY = 0xFFFF_FFFF

# The credit that we give to the peer. Guest kernels from 6.12.92 reset a connection whose unread packets,
# counted with the overhead of each, exceed it: at the default of 256 KiB some 455 small ones are enough
# (containers/libkrun#795).
BUFFER_BYTES = 8 << 20

HAS_NATIVE = hasattr(socket, "AF_VSOCK")

_SOCKADDR_VM = struct.Struct("=HHIIB3x")  # family, reserved, port, cid, flags
_SOCKADDR_VM_DATA = struct.Struct("=HII")  # the same after the family: reserved, port, cid


class HasPeer(Protocol):
    """A socket, or the view of one that ``transport.get_extra_info("socket")`` gives."""

    def getpeername(self) -> object:
        """The peer's address, as ``socket.socket.getpeername``."""


def open_socket(*, native: bool = HAS_NATIVE) -> socket.socket:
    """Make an unconnected, non-blocking vsock stream socket with 8 MiB of receive credit.

    Args:
        native: go through the interpreter's own AF_VSOCK; without it through libc, and the socket is born
            with the label AF_UNIX.

    Returns:
        The socket, for ``connect_ex`` or ``bind`` of this module.

    Raises:
        OSError: EPERM or EACCES where a container's policy forbids it, EAFNOSUPPORT without kernel support.
    """
    if native:
        sock = socket.socket(AF_VSOCK, socket.SOCK_STREAM)
    else:
        libc = _libc()
        fd = _checked(libc.socket(AF_VSOCK, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, 0))
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=fd)
    try:
        sock.setblocking(False)
        widen(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def widen(sock: socket.socket) -> None:
    """Give a socket 8 MiB of receive credit, and what it accepts from now on.

    Args:
        sock: any vsock socket, whatever its label.
    """
    # The options are u64. Python makes that of an int, and refuses bytes, on a socket labelled AF_VSOCK;
    # on any other it makes a C int of an int.
    value = BUFFER_BYTES if sock.family == AF_VSOCK else struct.pack("=Q", BUFFER_BYTES)
    # The maximum first: the kernel clamps the size to it without an error.
    for option in (SO_VM_SOCKETS_BUFFER_MAX_SIZE, SO_VM_SOCKETS_BUFFER_SIZE):
        sock.setsockopt(AF_VSOCK, option, value)


def connect_ex(sock: socket.socket, address: VsockAddress) -> int:
    """Start to connect.

    Args:
        sock: from ``open_socket``; non-blocking, so the usual answer is EINPROGRESS.
        address: whom to connect to.

    Returns:
        0 or an errno, as ``socket.socket.connect_ex``.
    """
    if sock.family == AF_VSOCK:
        return sock.connect_ex((address.cid, address.port))
    try:
        _checked(_libc().connect(sock.fileno(), *_sockaddr(address.cid, address.port)))
    except OSError as exc:
        return exc.errno or 0
    return 0


def bind(sock: socket.socket, address: VsockAddress) -> None:
    """Bind to a port.

    Args:
        sock: from ``open_socket``.
        address: CID_ANY for guests of every CID, 1 for this machine alone; port 0 for any free one.

    Raises:
        OSError: EADDRINUSE; EACCES below port 1024 without the privilege; EADDRNOTAVAIL for a foreign CID.
    """
    port = address.port or VMADDR_PORT_ANY
    if sock.family == AF_VSOCK:
        sock.bind((address.cid, port))
    else:
        _checked(_libc().bind(sock.fileno(), *_sockaddr(address.cid, port)))


def relabel(sock: socket.socket) -> socket.socket:
    """The same descriptor, labelled AF_UNIX and non-blocking, for ``create_server`` or ``create_connection``.

    Args:
        sock: any vsock socket; it is empty (detached) afterwards.

    Returns:
        The socket that owns the descriptor now.
    """
    renamed = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=sock.detach())
    renamed.setblocking(False)
    return renamed


def bound_address(sock: socket.socket) -> VsockAddress:
    """What a socket is bound to, whatever its label."""
    return VsockAddress(*_split(sock.getsockname()))


def peer_of(sock: HasPeer) -> VsockAddress | None:
    """Who is at the other end.

    Args:
        sock: a connected vsock socket, whatever its label.

    Returns:
        The peer's CID and port, or None when it has already gone (ENOTCONN).
    """
    with contextlib.suppress(OSError):
        return VsockAddress(*_split(sock.getpeername()))
    return None


def _split(name: object) -> tuple[int, int]:
    """CID and port of a socket name, which is raw bytes where the interpreter does not know the family."""
    match name:
        case (int(cid), int(port)):
            return cid, port
        case (int(), bytes(data)):
            _, port, cid = _SOCKADDR_VM_DATA.unpack_from(data)
            return cid, port
    raise OSError(f"{name!r} is not the name of a vsock socket")


def _libc() -> ctypes.CDLL:
    import ctypes  # several ms that only the odd interpreters shall cost

    return ctypes.CDLL(None, use_errno=True)


def _sockaddr(cid: int, port: int) -> tuple[bytes, int]:
    return _SOCKADDR_VM.pack(AF_VSOCK, 0, port, cid, 0), _SOCKADDR_VM.size


def _checked(result: int) -> int:
    if result < 0:
        import ctypes
        import os

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
