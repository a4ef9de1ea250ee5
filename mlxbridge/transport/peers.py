"""Who is at the other end of a connection, as far as the kernel says.

A relay stands between the host and most guests (the VM monitor, Apple's container-runtime-linux, sshd), and
then it is the relay that is named. So a uid is a gate to this machine, not the identity of a guest; that is
its token.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Literal, Protocol

from mlxbridge.addresses import Listen, TcpAddress, UnixAddress, VsockAddress
from mlxbridge.transport import vsock

_UCRED = struct.Struct("=iII")  # Linux, unix(7): pid, uid, gid
# macOS, bsd/sys/ucred.h and bsd/sys/un.h: struct xucred is version, uid, number of groups, 16 groups.
_XUCRED = struct.Struct("=IIh2x16I")
_SOL_LOCAL, _LOCAL_PEERCRED, _LOCAL_PEERPID = 0, 1, 2


class ConnectedSocket(vsock.HasPeer, Protocol):
    """A socket, or the view of one that ``transport.get_extra_info("socket")`` gives."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """A socket option, as ``socket.socket.getsockopt``."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What the kernel knows of a guest; None where it does not.

    Attributes:
        transport: what the guest came through.
        uid: unix: effective user of the process that connected, as this user namespace sees it.
        gid: unix: its effective group.
        pid: unix: its process, if this pid namespace can see it.
        cid: vsock: the guest's CID; 1 when it is on this machine.
        host: tcp: its IP address; an IPv4 one is written as such on an IPv6 socket too.
        port: tcp and vsock: its port.
    """

    transport: Literal["unix", "vsock", "tcp"]
    uid: int | None = None
    gid: int | None = None
    pid: int | None = None
    cid: int | None = None
    host: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        facts = ((name, getattr(self, name)) for name in ("uid", "gid", "pid", "cid", "host", "port"))
        return " ".join([self.transport, *(f"{name}={value}" for name, value in facts if value is not None)])


def peer_of(sock: ConnectedSocket, listen: Listen) -> Peer:
    """Ask the kernel who connected; right after accepting, as a peer that has gone has no name any more.

    Args:
        sock: an accepted socket, or asyncio's or uvloop's view of it.
        listen: what the listener was opened with; a relabelled vsock does not show what it is.

    Returns:
        What is known; facts that the kernel refuses are None.
    """
    match listen.address:
        case UnixAddress():
            return _unix_peer(sock)
        case VsockAddress():
            address = vsock.peer_of(sock)
            return Peer("vsock", cid=address.cid, port=address.port) if address else Peer("vsock")
        case TcpAddress():
            return _tcp_peer(sock)


def _unix_peer(sock: ConnectedSocket) -> Peer:
    with contextlib.suppress(OSError):
        if sys.platform == "darwin":
            return _darwin_peer(sock)
        pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return Peer("unix", uid=uid, gid=gid, pid=pid or None)  # 0: a process of another pid namespace
    return Peer("unix")


def _darwin_peer(sock: ConnectedSocket) -> Peer:
    _, uid, num_groups, *groups = _XUCRED.unpack(sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size))
    pid = None
    with contextlib.suppress(OSError):
        (pid,) = struct.unpack("=i", sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID, 4))
    return Peer("unix", uid=uid, gid=groups[0] if num_groups > 0 else None, pid=pid)


def _tcp_peer(sock: ConnectedSocket) -> Peer:
    with contextlib.suppress(OSError):
        match sock.getpeername():
            case (str(host), int(port), *_):
                return Peer("tcp", host=host.removeprefix("::ffff:"), port=port)
    return Peer("tcp")
