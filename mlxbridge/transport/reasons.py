"""From an errno to a sentence that says why a socket failed and what to do about it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator

from mlxbridge.addresses import Activation, Address, Listen, TcpAddress, UnixAddress, VsockAddress
from mlxbridge.errors import BridgeError, TransportError

_MOUNT = "-v /run/mlxbridge:/run/mlxbridge -e MLXBRIDGE_URL=unix:///run/mlxbridge/mlxbridge.sock"

_DIAL_UNIX = {
    errno.ENOENT: "there is no such file: start mlxbridge-host, or mount its socket into this container",
    errno.ECONNREFUSED: "nobody listens on it: start mlxbridge-host; if that was restarted, mount the folder"
    " of its socket rather than the file",
    errno.EACCES: "this user may not connect: mount the socket file itself, or let the host listen with"
    " unix:PATH?mode=0666 in a folder that others can enter",
    errno.EOPNOTSUPP: "the file system cannot carry it: mount the socket file itself, not its folder",
    errno.ENOTSOCK: "the file is not a socket: mount the host's socket there",
    errno.ETIMEDOUT: "the host does not accept connections: it is hung or overloaded",
}
_DIAL_TCP = {
    errno.ECONNREFUSED: "nobody listens on that port: start mlxbridge-host with --listen tcp:HOST:PORT",
    errno.EHOSTUNREACH: "there is no route to it: look at the container's network",
    errno.ENETUNREACH: "there is no route to it: look at the container's network",
    errno.ETIMEDOUT: "no answer: wrong host or port, or a firewall drops the packets",
}
_DIAL_VSOCK = {
    errno.EPERM: "AF_VSOCK is blocked by the container's seccomp profile; mount the unix socket instead:"
    f" {_MOUNT}",
    errno.EACCES: f"AF_VSOCK is blocked by AppArmor or SELinux; mount the unix socket instead: {_MOUNT}",
    # Not ECONNREFUSED: vsock answers a port without a listener with a reset.
    errno.ECONNRESET: "nobody listens on that port: start mlxbridge-host, or let the VM monitor relay it",
    errno.ENODEV: "there is no vsock to that CID: give the VM a virtio-vsock device, or use unix or tcp",
    errno.EAFNOSUPPORT: "this kernel has no AF_VSOCK: use unix or tcp",
    errno.ETIMEDOUT: "no answer: the VM monitor relays the port to nobody, or the host is hung",
}
_LISTEN_UNIX = {
    errno.EACCES: "this user may not make a socket there: choose a folder of your own",
    errno.EADDRINUSE: "another program (or another mlxbridge) listens there: stop it or take another path",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EOPNOTSUPP: "the file system cannot carry a socket: choose a local folder",
}
_LISTEN_TCP = {
    errno.EACCES: "ports below 1024 need a privilege: choose a higher one",
    errno.EADDRINUSE: "another program (or another mlxbridge) has the port: stop it or choose another one",
    errno.EADDRNOTAVAIL: "the address is none of this machine's: 127.0.0.1, or 0.0.0.0 for all of them",
}
_LISTEN_VSOCK = {
    errno.EPERM: "AF_VSOCK is blocked by the container's seccomp profile: run the host outside the container",
    errno.EACCES: "vsock ports below 1024 need a privilege, or a policy forbids vsock: use 2048, or unix",
    errno.EADDRINUSE: _LISTEN_TCP[errno.EADDRINUSE],
    errno.EADDRNOTAVAIL: "the CID is none of this machine's: vsock:PORT takes every guest",
    errno.EAFNOSUPPORT: "this kernel has no AF_VSOCK: modprobe vhost_vsock, or listen on unix or tcp",
}
# launch_activate_socket(3)
_LISTEN_LAUNCHD = {
    errno.ENOENT: "the plist has no socket of that name",
    errno.ESRCH: "launchd did not start this process: use mlxbridge-host service install, or listen on unix:PATH",
    errno.EALREADY: "the socket was taken over before: give the name once",
}

_NOBODY_LISTENS = {
    UnixAddress: {errno.ENOENT, errno.ECONNREFUSED},
    TcpAddress: {errno.ECONNREFUSED},
    VsockAddress: {errno.ECONNRESET},
}

# Waiting cures none of these: policy, kernel and file type stay what they are.
_LASTING = {errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.ENOTSOCK}


@contextlib.contextmanager
def dialling(address: Address) -> Iterator[None]:
    """Turn every OSError of the body into the reason why ``address`` could not be reached.

    Args:
        address: what the body dials.

    Raises:
        TransportError: address, reason, remedy; not ``retryable`` where waiting would not help.
    """
    try:
        yield
    except BridgeError:  # a TransportError is an OSError too, and already says it better
        raise
    except OSError as exc:
        raise _transport_error(f"cannot connect to {address}", exc, _dial_table(address)) from exc


def is_refusal(address: Address, error: BridgeError) -> bool:
    """Whether nobody listens at an address; of a name with several the last one's answer counts.

    Args:
        address: what was dialled.
        error: what came of it (``dialling``).
    """
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _NOBODY_LISTENS[type(address)]


@contextlib.contextmanager
def looking_up(address: TcpAddress) -> Iterator[None]:
    """Tell a resolver that is too slow from a host that is.

    Args:
        address: whose host the body waits for.

    Raises:
        TransportError: instead of TimeoutError.
    """
    try:
        yield
    except TimeoutError as exc:
        remedy = "use its IP address, or look at the container's DNS"
        raise TransportError(
            f"cannot connect to {address}: the look-up of its name took too long: {remedy}"
        ) from exc


@contextlib.contextmanager
def listening(listen: Listen | Activation) -> Iterator[None]:
    """Turn every OSError of the body into the reason why ``listen`` could not be opened.

    Args:
        listen: what the body opens.

    Raises:
        TransportError: address, reason, remedy; not ``retryable`` where waiting would not help.
    """
    try:
        yield
    except BridgeError:
        raise
    except OSError as exc:
        table = _LISTEN_LAUNCHD if isinstance(listen, Activation) else _listen_table(listen.address)
        raise _transport_error(f"cannot listen on {listen}", exc, table) from exc


def _transport_error(what: str, exc: OSError, table: dict[int, str]) -> TransportError:
    number = errno.ETIMEDOUT if isinstance(exc, TimeoutError) else exc.errno
    if isinstance(exc, socket.gaierror):  # its errno is an EAI_ number
        return TransportError(f"{what}: the host name has no address ({exc.strerror})")
    name = errno.errorcode.get(number or 0, type(exc).__name__)
    reason = table.get(number or 0) or exc.strerror or (os.strerror(number) if number else str(exc))
    return TransportError(f"{what}: {reason} [{name}]", retryable=number not in _LASTING)


def _dial_table(address: Address) -> dict[int, str]:
    match address:
        case UnixAddress():
            return _DIAL_UNIX
        case VsockAddress():
            return _DIAL_VSOCK
        case TcpAddress():
            return _DIAL_TCP


def _listen_table(address: Address) -> dict[int, str]:
    match address:
        case UnixAddress():
            return _LISTEN_UNIX
        case VsockAddress():
            return _LISTEN_VSOCK
        case TcpAddress():
            return _LISTEN_TCP
