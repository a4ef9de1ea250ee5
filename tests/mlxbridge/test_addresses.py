import subprocess
import sys
from collections.abc import Callable

import pytest

from mlxbridge.addresses import (
    CID_ANY,
    Activation,
    Address,
    Listen,
    TcpAddress,
    UnixAddress,
    VsockAddress,
    parse_address,
    parse_addresses,
    parse_listen_option,
)
from mlxbridge.errors import UsageError

LONGEST = "/" + "x" * 102

ADDRESSES = [
    ("unix:///run/mlxbridge.sock", UnixAddress("/run/mlxbridge.sock")),
    ("unix:///with space, and = signs", UnixAddress("/with space, and = signs")),
    (f"unix://{LONGEST}", UnixAddress(LONGEST)),
    ("vsock://2:2048", VsockAddress(2, 2048)),
    ("vsock://2:4294967294", VsockAddress(2, 0xFFFF_FFFE)),
    ("tcp://127.0.0.1:1", TcpAddress("127.0.0.1", 1)),
    ("tcp://host.docker.internal:65535", TcpAddress("host.docker.internal", 65535)),
    ("tcp://[::1]:2048", TcpAddress("::1", 2048)),
    ("tcp://[fe80::1%eth0]:2048", TcpAddress("fe80::1%eth0", 2048)),
]

SHORTENED = [
    ("vsock://2", "vsock://2:2048"),
    ("tcp://localhost", "tcp://localhost:2048"),
    ("tcp://[::1]", "tcp://[::1]:2048"),
    ("  tcp://localhost:7 ", "tcp://localhost:7"),
]

# text, what the message must name, what it must recommend
WRONG_ADDRESSES = [
    ("", "empty", "unix:///path"),
    ("/run/x.sock", "no scheme", "unix:///run/x.sock"),
    ("unix:/run/x.sock", "'://' is missing", "unix:///run/x.sock"),
    ("vsock:2:2048", "'://' is missing", "vsock://2:2048"),
    ("localhost:2048", "no scheme", "tcp://localhost:2048"),
    ("http://localhost:2048", "'http'", "did you mean tcp?"),
    ("vsok://2:2048", "'vsok'", "did you mean vsock?"),
    ("UNIX:///x", "'UNIX'", "did you mean unix?"),
    ("quic://x", "'quic'", "tcp://HOST:PORT"),
    ("unix://run/x.sock", "'run/x.sock' is not absolute", "unix:///run/x.sock"),
    ("unix://", "not absolute", "unix:///run/mlxbridge.sock"),
    ("unix:///folder/", "is a folder", "file name"),
    ("unix:///x?mode=0666", "no options", "unix:///x"),
    ("unix:///x\0y", "NUL", "plain file path"),
    (f"unix://{LONGEST}x", "104 bytes", "103"),
    (f"unix:///{'é' * 52}", "105 bytes", "103"),
    ("vsock://host:2048", "CID 'host'", "2"),
    ("vsock://:2048", "CID ''", "2"),
    ("vsock://4294967296:1", "CID 4294967296 is out of range", "2"),
    ("vsock://any:2048", "'any' cannot be dialled", "vsock://2:2048"),
    ("vsock://2:4294967295", "port 4294967295 is out of range", "2048"),
    ("vsock://2:-1", "port '-1'", "2048"),
    ("vsock://2:0", "port 0", "2048"),
    ("tcp://h:0", "port 0", "2048"),
    ("tcp://h:65536", "port 65536 is out of range", "1 to 65535"),
    ("tcp://h:²", "port '²' is not a number", "1 to 65535"),
    ("tcp://h:", "port ''", "1 to 65535"),
    ("tcp://h:1/", "port '1/'", "1 to 65535"),
    (f"tcp://h:{'9' * 5000}", "out of range", "1 to 65535"),
    ("tcp://:2048", "host is missing", "127.0.0.1"),
    ("tcp://2048", "host is missing", "127.0.0.1"),
    ("tcp://::1:2048", "several colons", "tcp://[::1]:2048"),
    ("tcp://[::g]:1", "'::g' is not an IPv6 address", "tcp://[::1]:2048"),
    ("tcp://[::1", "'[::1'", "tcp://[::1]:2048"),
    ("tcp://[::1]x", "'[::1]x'", "tcp://[::1]:2048"),
    ("tcp://a b:1", "' '", "host name"),
    ("tcp://user@h:1", "'@'", "host name"),
]

LISTENS = [
    ("unix:/run/x.sock", Listen(UnixAddress("/run/x.sock"))),
    ("unix:/run/x.sock?mode=0666", Listen(UnixAddress("/run/x.sock"), 0o666)),
    ("tcp:127.0.0.1:2048", Listen(TcpAddress("127.0.0.1", 2048))),
    ("tcp:[::]:0", Listen(TcpAddress("::", 0))),
    ("vsock:2048", Listen(VsockAddress(CID_ANY, 2048))),
    ("vsock:0", Listen(VsockAddress(CID_ANY, 0))),
    ("vsock://1:2048", Listen(VsockAddress(1, 2048))),
    ("launchd:bridge", Activation("launchd", "bridge")),
    ("systemd", Activation("systemd")),
    ("systemd:mlxbridge.socket", Activation("systemd", "mlxbridge.socket")),
]

LONGER_LISTENS = [
    ("unix:///run/x.sock?mode=600", "unix:/run/x.sock?mode=0600"),
    ("tcp://127.0.0.1:2048", "tcp:127.0.0.1:2048"),
    ("tcp:localhost", "tcp:localhost:2048"),
    ("vsock", "vsock:2048"),
    ("vsock://any:7", "vsock:7"),
]

WRONG_LISTENS = [
    ("launchd", "name of the socket is missing", "launchd:NAME"),
    ("launchd:", "name of the socket is missing", "launchd:NAME"),
    ("systemd:", "name of the socket is missing", "systemd alone for every socket"),
    ("systemd:a:b", "'a:b' is no name of a socket", "ASCII without ':'"),
    ("systemd:" + "n" * 256, "is no name of a socket", "255 characters"),
    ("launchd:br\0dge", "is no name of a socket", "ASCII"),
    ("unx:/x", "'unx'", "did you mean unix?"),
    ("2048", "no scheme", "tcp:HOST:PORT"),
    ("unix:x.sock", "'x.sock' is not absolute", "unix:///x.sock"),
    ("unix:~/x.sock", "'~/x.sock' is not absolute", "unix:///x.sock"),
    ("unix:/x?mode=438", "mode '438'", "?mode=0666"),
    ("unix:/x?mode=0o666", "mode '0o666'", "?mode=0666"),
    ("unix:/x?mode=7777", "mode '7777'", "?mode=0666"),
    ("unix:/x?mode=", "mode ''", "?mode=0666"),
    ("unix:/x?backlog=9", "'backlog'", "?mode=0666"),
    ("tcp:127.0.0.1:2048?mode=0666", "no options", "tcp:127.0.0.1:2048"),
    ("tcp::2048", "host is missing", "0.0.0.0"),
    ("tcp:2048", "host is missing", "0.0.0.0"),
    ("vsock:2:2048", "port '2:2048'", "2048"),
]


@pytest.mark.parametrize(("text", "address"), ADDRESSES)
def test_address_both_ways(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(("text", "full"), SHORTENED)
def test_address_without_port_gets_the_default(text: str, full: str) -> None:
    assert str(parse_address(text)) == full


@pytest.mark.parametrize(("text", "problem", "right"), WRONG_ADDRESSES)
def test_wrong_address_says_what_and_what_instead(text: str, problem: str, right: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert problem in caught.value.message
    assert right in caught.value.message


@pytest.mark.parametrize(("text", "listen"), LISTENS)
def test_listen_both_ways(text: str, listen: Listen | Activation) -> None:
    assert parse_listen_option(text) == listen
    assert str(listen) == text


@pytest.mark.parametrize(("text", "short"), LONGER_LISTENS)
def test_listen_takes_urls_and_defaults(text: str, short: str) -> None:
    assert str(parse_listen_option(text)) == short


@pytest.mark.parametrize(("text", "problem", "right"), WRONG_LISTENS)
def test_wrong_listen_says_what_and_what_instead(text: str, problem: str, right: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_listen_option(text)
    assert problem in caught.value.message
    assert right in caught.value.message


def test_address_list_keeps_its_order_and_skips_blanks() -> None:
    assert parse_addresses("vsock://2, tcp://h:1,,unix:///x,") == (
        VsockAddress(2, 2048),
        TcpAddress("h", 1),
        UnixAddress("/x"),
    )


@pytest.mark.parametrize("text", ["", " , ,"])
def test_empty_address_list_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no address in it"):
        parse_addresses(text)


@pytest.mark.parametrize(
    "make",
    [
        lambda: UnixAddress("relative"),
        lambda: VsockAddress(-1, 1),
        lambda: VsockAddress(2, -1),
        lambda: TcpAddress("h", 65536),
    ],
)
def test_address_made_by_hand_is_checked_too(make: Callable[[], Address]) -> None:
    with pytest.raises(UsageError):
        make()


def test_import_brings_no_heavy_module() -> None:
    code = (
        "import sys; before = set(sys.modules); import mlxbridge.addresses as a;"
        "a.parse_address('tcp://localhost'); a.parse_listen_option('unix:/x'); new = set(sys.modules) - before;"
        "print(*{'asyncio', 'socket', 'ipaddress', 'difflib', 'logging', 'ctypes'} & new)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
