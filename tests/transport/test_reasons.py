import errno
import os
import socket

import pytest

from mlxbridge.addresses import Address, TcpAddress, UnixAddress, VsockAddress, parse_listen
from mlxbridge.errors import TransportError, UsageError
from mlxbridge.transport.reasons import dialling, listening, looking_up

UNIX, VSOCK, TCP = UnixAddress("/run/x.sock"), VsockAddress(2, 2048), TcpAddress("h", 1)

# address, errno, what the message must say, whether trying again may help
DIALS = [
    (
        VSOCK,
        errno.EPERM,
        "blocked by the container's seccomp profile; mount the unix socket instead: -v",
        False,
    ),
    (VSOCK, errno.EACCES, "blocked by AppArmor or SELinux; mount the unix socket instead: -v", False),
    (VSOCK, errno.ECONNRESET, "nobody listens on that port", True),
    (VSOCK, errno.ENODEV, "no vsock to that CID", True),
    (VSOCK, errno.EAFNOSUPPORT, "no AF_VSOCK: use unix or tcp", False),
    (VSOCK, errno.ETIMEDOUT, "no answer", True),
    (UNIX, errno.ENOENT, "no such file: start mlxbridge-host", True),
    (UNIX, errno.ECONNREFUSED, "nobody listens on it", True),
    (UNIX, errno.EACCES, "?mode=0666", False),
    (UNIX, errno.EOPNOTSUPP, "mount the socket file itself", False),
    (UNIX, errno.ETIMEDOUT, "hung or overloaded", True),
    (TCP, errno.ECONNREFUSED, "--listen tcp:", True),
    (TCP, errno.EHOSTUNREACH, "no route", True),
    (TCP, errno.ETIMEDOUT, "firewall", True),
    (TCP, errno.EMFILE, os.strerror(errno.EMFILE), True),
]

LISTENS = [
    ("unix:/run/x.sock", errno.EADDRINUSE, "another program (or another mlxbridge) listens there"),
    ("unix:/run/x.sock", errno.EACCES, "a folder of your own"),
    ("tcp:h:80", errno.EACCES, "below 1024"),
    ("tcp:h:80", errno.EADDRNOTAVAIL, "0.0.0.0"),
    ("vsock:80", errno.EPERM, "seccomp"),
    ("vsock:80", errno.EAFNOSUPPORT, "modprobe vhost_vsock"),
]


@pytest.mark.parametrize(("address", "number", "reason", "retryable"), DIALS)
def test_dial_error_names_address_reason_and_remedy(
    address: Address, number: int, reason: str, retryable: bool
) -> None:
    with pytest.raises(TransportError) as caught, dialling(address):
        raise OSError(number, os.strerror(number))
    assert caught.value.message.startswith(f"cannot connect to {address}: ")
    assert reason in caught.value.message
    assert f"[{errno.errorcode[number]}]" in caught.value.message
    assert caught.value.retryable is retryable
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(("text", "number", "reason"), LISTENS)
def test_listen_error_names_address_reason_and_remedy(text: str, number: int, reason: str) -> None:
    with pytest.raises(TransportError) as caught, listening(parse_listen(text)):
        raise OSError(number, os.strerror(number))
    assert caught.value.message.startswith(f"cannot listen on {text}: ")
    assert reason in caught.value.message


def test_deadline_of_a_loop_counts_as_a_time_out() -> None:
    with pytest.raises(TransportError, match=r"no answer.*\[ETIMEDOUT\]"), dialling(TCP):
        raise TimeoutError


def test_error_without_a_number_keeps_its_text() -> None:
    with pytest.raises(TransportError, match=r"something odd \[OSError\]"), dialling(TCP):
        raise OSError("something odd")


def test_unknown_name_is_told_from_a_dead_host() -> None:
    with pytest.raises(TransportError, match=r"no address \(Name or service not known\)"), dialling(TCP):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_slow_look_up_is_told_from_a_slow_host() -> None:
    with pytest.raises(TransportError, match="look-up of its name"), dialling(TCP), looking_up(TCP):
        raise TimeoutError


@pytest.mark.parametrize("error", [TransportError("as it is"), UsageError("as it is"), KeyError("bug")])
def test_errors_that_need_no_reason_pass(error: Exception) -> None:
    for context in (dialling(UNIX), listening(parse_listen("unix:/x"))):
        with pytest.raises(type(error)) as caught, context:
            raise error
        assert caught.value is error
