"""Take over the listening sockets that launchd or systemd hands down (socket activation).

The service manager binds them, owns their files, and keeps them while the host is away: guests that connect meanwhile
wait in the backlog for the next host. So they are never unlinked here, and closing them ends this process's part alone.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlxbridge.addresses import Activation, Listen, TcpAddress, UnixAddress
from mlxbridge.errors import UsageError
from mlxbridge.transport import reasons, vsock
from mlxbridge.transport.buffers import widen_unix

if TYPE_CHECKING:
    import ctypes

FIRST_FD = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)
_UNNAMED = "unknown"  # what sd_listen_fds_with_names(3) calls a socket that has no name


def take_sockets(activations: Sequence[Activation]) -> list[tuple[socket.socket, Listen]]:
    """Take over what ``activations`` name, once in the life of a process.

    Child processes inherit neither the sockets nor the environment variables that tell of them.

    Args:
        activations: of one service manager or of none.

    Returns:
        Each listening, non-blocking socket, for ``loop.create_server(factory, sock=…)``, beside the address that its
        kernel tells. Vsock is labelled AF_UNIX (``transport.vsock``).

    Raises:
        TransportError: launchd refuses.
        UsageError: nothing was handed down, or not what is named, or something that does not listen for streams.
    """
    taken: list[tuple[socket.socket, Listen]] = []
    fds = [(fd, found) for found in activations if found.manager == "launchd" for fd in _launchd_fds(found)]
    fds += _systemd_fds([found for found in activations if found.manager == "systemd"])
    try:
        for fd, found in fds:
            taken.append(_adopt(fd, found))
    except BaseException:
        for sock, _ in taken:
            sock.close()
        raise
    return taken


def _systemd_fds(activations: Sequence[Activation]) -> list[tuple[int, Activation]]:
    if not activations:
        return []
    fds = _listen_fds(activations[0])
    names = {name for _, name in fds}
    wanted = {found.name for found in activations}
    if missing := sorted(name for name in wanted - names if name is not None):
        raise UsageError(
            f"cannot listen on systemd:{missing[0]}: systemd handed down {', '.join(sorted(names))}; the name is that"
            " of the socket unit, or its FileDescriptorName="
        )
    if None not in wanted and (left := sorted(names - wanted)):
        raise UsageError(
            f"no --listen takes the socket {left[0]} that systemd hands down, so its guests would wait for ever: add"
            f" systemd:{left[0]}, or give systemd alone for every socket"
        )
    return [(fd, Activation("systemd", name)) for fd, name in fds]


def _listen_fds(activation: Activation) -> list[tuple[int, str]]:
    """Descriptors and their names, sd_listen_fds(3); the variables are gone afterwards."""
    pid, count, names, _ = (
        os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
    )
    if not count.isdigit() or int(count) == 0:
        raise UsageError(
            f"cannot listen on {activation}: systemd handed no socket down; use mlxbridge-host service install, or"
            " listen on unix:PATH"
        )
    if pid != str(os.getpid()):
        raise UsageError(
            f"cannot listen on {activation}: the sockets are for process {pid or '?'}, and this is {os.getpid()}: let"
            " ExecStart= run mlxbridge-host itself, with no program between"
        )
    fds = range(FIRST_FD, FIRST_FD + int(count))
    called = names.split(":") if names else []
    return [
        (fd, name or _UNNAMED) for fd, name in zip(fds, called + [""] * (len(fds) - len(called)), strict=True)
    ]


def _launchd_fds(activation: Activation) -> list[int]:
    if sys.platform != "darwin":
        raise UsageError(
            f"cannot listen on {activation}: launchd is the service manager of macOS; on Linux use systemd, or unix:PATH"
        )
    import ctypes

    with reasons.listening(activation):
        return activate(activation.name or "", ctypes.CDLL(None))


def activate(name: str, library: ctypes.CDLL) -> list[int]:
    """Ask launchd for the sockets of a name, launch_activate_socket(3).

    Args:
        name: their key under ``Sockets`` in the plist.
        library: what has ``launch_activate_socket`` and ``free``; on macOS every process.

    Returns:
        Their descriptors, one or more.

    Raises:
        OSError: ENOENT for a name that the plist does not have, ESRCH in a process that launchd did not start, EALREADY
            the second time.
    """
    import ctypes

    function = library.launch_activate_socket
    function.restype = ctypes.c_int
    function.argtypes = [
        ctypes.c_char_p,
        ctypes.POINTER(ctypes.POINTER(ctypes.c_int)),
        ctypes.POINTER(ctypes.c_size_t),
    ]
    free = library.free
    free.restype = None
    free.argtypes = [ctypes.c_void_p]
    fds, count = ctypes.POINTER(ctypes.c_int)(), ctypes.c_size_t()
    if number := function(name.encode(), ctypes.byref(fds), ctypes.byref(count)):
        raise OSError(number, os.strerror(number))
    try:
        return [fds[index] for index in range(count.value)]
    finally:
        free(fds)


def _adopt(fd: int, activation: Activation) -> tuple[socket.socket, Listen]:
    with reasons.listening(activation):
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        try:
            return _set_up(sock, activation)
        except BaseException:
            sock.close()
            raise


def _set_up(sock: socket.socket, activation: Activation) -> tuple[socket.socket, Listen]:
    """Tell what a socket is, and give it what ``open_listener`` gives its own."""
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise UsageError(
            f"cannot listen on {activation}: descriptor {sock.fileno()} does not listen for streams: let the socket"
            " unit say ListenStream= and Accept=no"
        )
    sock.setblocking(False)
    match sock.family, sock.getsockname():
        case socket.AF_UNIX, str(path) if path:
            widen_unix(sock)
            return sock, Listen(UnixAddress(path))
        case ((socket.AF_INET | socket.AF_INET6), (str(host), int(port), *_)):
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
            )  # as listen._open_tcp, where it says why
            return sock, Listen(TcpAddress(host, port))
        case vsock.AF_VSOCK, _:
            vsock.widen(sock)
            address = vsock.bound_address(sock)
            return vsock.relabel(sock), Listen(address)
        case _, name:
            raise UsageError(
                f"cannot listen on {activation}: descriptor {sock.fileno()} is bound to {name!r}; let it be a unix"
                " socket with a file, TCP or vsock"
            )
