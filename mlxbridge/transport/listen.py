"""Open and close the sockets that the host listens on, those that a service manager hands down among them.

A unix socket's file is where most can go wrong, so it has rules: a file is replaced only if it is a socket
that refuses a probe, under a lock on its folder; permissions are set before ``listen``, when nobody can
connect yet; and closing removes the file only if it is still the one that was bound here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator, Sequence

from mlxbridge.addresses import Activation, Address, Listen, TcpAddress, UnixAddress, VsockAddress
from mlxbridge.errors import UsageError
from mlxbridge.transport import reasons, vsock
from mlxbridge.transport.activation import take_sockets
from mlxbridge.transport.buffers import widen_unix

# Guests that may wait to be accepted, while the host starts for example. The kernel cuts it to what it allows: 4096 on
# Linux (net.core.somaxconn), 128 on macOS (kern.ipc.somaxconn).
BACKLOG = 4096
PRIVATE_FOLDER_MODE = 0o700
SHARED_FOLDER_MODE = 0o755
_PROBE_TIMEOUT_S = 1.0
# XNU also refuses when the accept queue of a live listener is full, so there one refusal proves nothing.
_REFUSALS_NEEDED = 5 if sys.platform == "darwin" else 1
_REFUSAL_PAUSE_S = 0.05


FileId = tuple[int, int, int]
"""Device, inode and change time: a file system may give a freed inode to the next file."""


class UnixListener(socket.socket):
    """A unix socket that knows which file it made.

    Attributes:
        path: the socket's file.
        file_id: what the file was when it was made; None before.
    """

    def __init__(self, path: str) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self.path = path
        self.file_id: FileId | None = None

    def remember_file(self) -> None:
        """Take the file as it is now for this socket's own."""
        self.file_id = _file_id(self.path)

    def unlink(self) -> None:
        """Remove the file if it is still the one that this socket made."""
        mine, self.file_id = self.file_id, None
        with contextlib.suppress(FileNotFoundError):
            if mine is not None and _file_id(self.path) == mine:
                os.unlink(self.path)


def open_listeners(listens: Sequence[Listen | Activation]) -> list[tuple[socket.socket, Listen]]:
    """Open every listener, or none.

    Args:
        listens: what to bind, and what to take over from the service manager.

    Returns:
        Each socket, as from ``open_listener``, beside what it is; an activation gives any number of them.

    Raises:
        TransportError, UsageError: as ``open_listener`` and ``activation.take_sockets``.
    """
    opened = take_sockets([listen for listen in listens if isinstance(listen, Activation)])
    try:
        for listen in listens:
            if isinstance(listen, Listen):
                opened.append((open_listener(listen), listen))
    except BaseException:
        for sock, _ in opened:
            close_listener(sock)
        raise
    return opened


def open_listener(listen: Listen) -> socket.socket:
    """Bind and listen.

    For a unix socket the folder is made with 0700 where it is missing, or with 0755 if ``listen.mode`` opens the socket
    to others. Without ``listen.mode`` the file gets
    0666 in a folder that only its owner can enter (whoever has the socket mounted may then connect, as any
    user), and 0600 in every other folder.

    Args:
        listen: what to bind.

    Returns:
        The listening, non-blocking socket for ``loop.create_server(factory, sock=…)``; never for
        ``create_unix_server``, which removes files that are not its own. Keep the Server: uvloop closes one
        that nobody refers to. Vsock is labelled AF_UNIX (``transport.vsock``).

    Raises:
        TransportError: address, reason and remedy.
        UsageError: the path holds something that is not a socket; vsock on macOS.
    """
    with reasons.listening(listen):
        match listen.address:
            case UnixAddress(path):
                return _open_unix(path, listen.mode)
            case TcpAddress(host, port):
                return _open_tcp(host, port)
            case VsockAddress():
                return _open_vsock(listen.address)


def close_listener(sock: socket.socket) -> None:
    """Close a listener and remove the file that it made, unless another program's has taken its place.

    One that was handed down goes on listening, for the service manager has it too, and its file stays.

    Args:
        sock: from ``open_listener`` or ``open_listeners``. Where a loop serves it, ``Server.close()`` comes first. Twice is fine.
    """
    if isinstance(sock, UnixListener):
        sock.unlink()
    sock.close()


@contextlib.contextmanager
def listener(listen: Listen) -> Iterator[socket.socket]:
    """``open_listener``, then ``close_listener`` at the end of the block."""
    sock = open_listener(listen)
    try:
        yield sock
    finally:
        close_listener(sock)


def bound_address(sock: socket.socket, listen: Listen) -> Address:
    """Where a listener really is: its port where ``listen`` said 0, its IP address where it gave a name.

    Args:
        sock: from ``open_listener``, not closed.
        listen: what it was opened with.

    Returns:
        The address; on vsock with the CID that was asked for.
    """
    match listen.address:
        case UnixAddress():
            return listen.address
        case TcpAddress():
            host, port = sock.getsockname()[:2]
            return TcpAddress(host, port)
        case VsockAddress(cid):
            return VsockAddress(cid, vsock.bound_address(sock).port)


def folder_mode(mode: int | None) -> int:
    """Permission bits for a socket's folder that is missing: private, unless ``mode`` opens the socket to others."""
    return SHARED_FOLDER_MODE if mode is not None and mode & 0o066 else PRIVATE_FOLDER_MODE


def safe_mode(path: str) -> int:
    """Permission bits for a socket's file where none are asked for; a folder that is missing counts as private.

    Args:
        path: of the file, which need not be there.
    """
    with contextlib.suppress(FileNotFoundError):
        if stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) & 0o077:
            return 0o600
    return 0o666


def _open_unix(path: str, mode: int | None) -> socket.socket:
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=folder_mode(mode), exist_ok=True)
    mode = safe_mode(path) if mode is None else mode
    with _locked(folder):
        _clear_path(path)
        sock = UnixListener(path)
        with _closed_on_error(sock):
            widen_unix(sock)
            sock.bind(path)
            sock.remember_file()
            os.chmod(path, mode)
            sock.remember_file()  # chmod changed its ctime
            return _listening(sock)


def _open_tcp(host: str, port: int) -> socket.socket:
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # Of a name's addresses the IPv4 one: container engines forward to 127.0.0.1, and macOS puts ::1 first.
    family, _, _, _, target = min(infos, key=lambda info: info[0] != socket.AF_INET)
    sock = socket.socket(family, socket.SOCK_STREAM)
    with _closed_on_error(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it (Linux, BSD). A guest that reads only while it waits for something is never given
        # up by the protocol's keepalive, so a machine that vanished must be noticed here.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        sock.bind(target)
        return _listening(sock)


def _open_vsock(address: VsockAddress) -> socket.socket:
    if sys.platform != "linux":
        raise UsageError(
            f"cannot listen on {Listen(address)}: macOS lets only the VM monitor answer vsock. Listen on"
            " unix:PATH and have the monitor relay it: vfkit and krunkit with --device"
            f" virtio-vsock,port={address.port},socketURL=PATH,listen; Apple container with"
            " -v PATH:/run/mlxbridge.sock"
        )
    sock = vsock.open_socket()
    with _closed_on_error(sock):
        vsock.bind(sock, address)
        sock.listen(BACKLOG)
    return vsock.relabel(sock)


def _listening(sock: socket.socket) -> socket.socket:
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


@contextlib.contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        close_listener(sock)
        raise


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Keep other hosts from probing and replacing a file of the folder meanwhile."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _clear_path(path: str) -> None:
    """Remove a socket file that nobody listens on any more; raise if there is anything else."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UsageError(
            f"cannot listen on unix:{path}: a {_kind(mode)} is there; move it away or choose another path"
        )
    for attempt in range(_REFUSALS_NEEDED):
        if attempt:
            time.sleep(_REFUSAL_PAUSE_S)
        code = probe(path)
        if code == errno.ENOENT:
            return
        if code == errno.EACCES:
            raise PermissionError(code, os.strerror(code))
        if code != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    os.unlink(path)


def probe(path: str) -> int:
    """Connect to a unix socket and hang up: 0 if somebody listens there, else an errno."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_PROBE_TIMEOUT_S)
        return sock.connect_ex(path)


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "symbolic link"
    return "folder" if stat.S_ISDIR(mode) else "file"


def _file_id(path: str) -> FileId:
    info = os.lstat(path)
    return info.st_dev, info.st_ino, info.st_ctime_ns
