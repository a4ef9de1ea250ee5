"""What of vsock needs no kernel support for it; tests/vm has the rest."""

import errno
import socket
import sys

import pytest

from mlxbridge.addresses import VsockAddress
from mlxbridge.transport import vsock


@pytest.mark.skipif(
    sys.platform != "linux", reason="macOS has other numbers, and never dials vsock from Python"
)
def test_numbers_are_those_of_the_headers() -> None:
    if vsock.HAS_NATIVE:
        assert socket.AF_VSOCK == vsock.AF_VSOCK
        assert socket.SO_VM_SOCKETS_BUFFER_SIZE == vsock.SO_VM_SOCKETS_BUFFER_SIZE
        assert socket.SO_VM_SOCKETS_BUFFER_MAX_SIZE == vsock.SO_VM_SOCKETS_BUFFER_MAX_SIZE
        assert socket.VMADDR_PORT_ANY == vsock.VMADDR_PORT_ANY


def test_relabelled_socket_is_the_same_descriptor() -> None:
    one, other = socket.socketpair()
    with other:
        fd = one.fileno()
        renamed = vsock.relabel(one)
        with renamed:
            assert (one.fileno(), renamed.fileno()) == (-1, fd)
            assert renamed.family == socket.AF_UNIX
            assert not renamed.getblocking()
            other.send(b"x")
            assert renamed.recv(1) == b"x"


@pytest.mark.skipif(sys.platform != "linux", reason="the numbers are Linux's")
def test_libc_reports_errno() -> None:
    """A descriptor that cannot take a vsock address, so that both calls fail in the same way everywhere."""
    with socket.socket(socket.AF_UNIX) as sock:
        assert vsock.connect_ex(sock, VsockAddress(2, 1)) == errno.EINVAL
        with pytest.raises(OSError, match="Invalid argument"):
            vsock.bind(sock, VsockAddress(2, 1))


def test_peer_of_a_socket_that_is_not_vsock_is_none() -> None:
    with socket.socket() as sock:
        assert vsock.peer_of(sock) is None
