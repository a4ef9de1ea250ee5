"""Where a guest dials and where a host listens, written as URLs.

==========  =============================  ==========================================
transport   guest (``MLXBRIDGE_URL``)      host (``--listen``)
==========  =============================  ==========================================
unix        ``unix:///path``               ``unix:/path`` · ``unix:/path?mode=0666``
vsock       ``vsock://CID:PORT``           ``vsock:PORT`` (Linux hosts only)
tcp         ``tcp://HOST:PORT``            ``tcp:HOST:PORT``; port 0 means any free one
==========  =============================  ==========================================

An IPv6 host stands in brackets; PORT is 2048 where left out; ``--listen`` takes the URL forms too. A host may also take
sockets over from the service manager that started it: ``launchd:NAME`` on macOS, ``systemd`` or ``systemd:NAME`` on Linux.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlxbridge.errors import UsageError

DEFAULT_PORT = 2048
MAX_PATH_BYTES = 103  # sun_path is 104 bytes with its NUL on macOS (108 on Linux, unix(7))
CID_ANY = 0xFFFF_FFFF  # VMADDR_CID_ANY, vsock(7): listen for every CID
MAX_VSOCK_PORT = 0xFFFF_FFFE  # one below VMADDR_PORT_ANY
MAX_TCP_PORT = 0xFFFF

_SCHEMES = ("unix", "vsock", "tcp")
_GUEST_FORMS = "unix:///path, vsock://CID:PORT or tcp://HOST:PORT"
_LISTEN_FORMS = "unix:PATH, tcp:HOST:PORT or vsock:PORT"
_MAX_NAME_CHARS = 255  # FileDescriptorName=, systemd.socket(5)


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix stream socket; ``path`` is absolute and at most 103 bytes long."""

    path: str

    def __post_init__(self) -> None:
        size = len(self.path.encode(errors="surrogateescape"))
        if size > MAX_PATH_BYTES:
            raise UsageError(
                f"socket path {self.path!r} is {size} bytes long; a socket's has at most {MAX_PATH_BYTES}"
            )
        if "\0" in self.path:
            raise UsageError(f"socket path {self.path!r} has a NUL in it; use a plain file path")
        if not self.path.startswith("/"):
            raise UsageError(f"socket path {self.path!r} is not absolute; start it with '/'")
        if self.path.endswith("/"):
            raise UsageError(f"socket path {self.path!r} is a folder; add the socket's file name")

    def __str__(self) -> str:
        return f"unix://{self.path}"


@dataclass(frozen=True, slots=True)
class VsockAddress:
    """A port of a virtual machine or of its host (CID 2), vsock(7); port 0 is for listening: any free one."""

    cid: int
    port: int

    def __post_init__(self) -> None:
        if not 0 <= self.cid <= CID_ANY:
            raise UsageError(f"vsock CID {self.cid} is out of range; the host is 2, this machine itself is 1")
        if not 0 <= self.port <= MAX_VSOCK_PORT:
            raise UsageError(f"vsock port {self.port} is out of range; use 1 to {MAX_VSOCK_PORT}")

    def __str__(self) -> str:
        return f"vsock://{'any' if self.cid == CID_ANY else self.cid}:{self.port}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP port; ``host`` is a name or a literal without brackets, port 0 is for listening: any free one."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if not 0 <= self.port <= MAX_TCP_PORT:
            raise UsageError(f"tcp port {self.port} is out of range; use 1 to {MAX_TCP_PORT}")

    def __str__(self) -> str:
        return f"tcp://{_bracketed(self.host)}:{self.port}"


Address = UnixAddress | VsockAddress | TcpAddress


@dataclass(frozen=True, slots=True)
class Listen:
    """One ``--listen`` of the host.

    Attributes:
        address: what to bind; a vsock CID of ``CID_ANY`` takes guests of every CID.
        mode: permission bits of the unix socket's file, or None for the safe default of ``open_listener``.
    """

    address: Address
    mode: int | None = None

    @property
    def is_local(self) -> bool:
        """Whether nobody but this machine's own programs can connect, its browsers among them."""
        if isinstance(self.address, TcpAddress):
            import ipaddress  # 5 ms that few need

            try:
                return ipaddress.ip_address(self.address.host).is_loopback
            except ValueError:
                return self.address.host == "localhost"
        return isinstance(self.address, UnixAddress)

    def __str__(self) -> str:
        match self.address:
            case UnixAddress(path):
                return f"unix:{path}" if self.mode is None else f"unix:{path}?mode={self.mode:04o}"
            case TcpAddress(host, port):
                return f"tcp:{_bracketed(host)}:{port}"
            case VsockAddress(cid, port):
                return f"vsock:{port}" if cid == CID_ANY else str(self.address)


@dataclass(frozen=True, slots=True)
class Activation:
    """One ``--listen`` for sockets that a service manager listens on and hands down (socket activation).

    Attributes:
        manager: who hands them down.
        name: their key under ``Sockets`` in a launchd plist, or their ``FileDescriptorName=`` in a systemd socket unit;
            None for all that systemd hands down.
    """

    manager: Literal["launchd", "systemd"]
    name: str | None = None

    def __str__(self) -> str:
        return self.manager if self.name is None else f"{self.manager}:{self.name}"


def parse_address(text: str) -> Address:
    """Read one guest address.

    Args:
        text: ``unix:///path``, ``vsock://CID[:PORT]`` or ``tcp://HOST[:PORT]``; blanks around it are cut off.

    Returns:
        The address; ``str()`` of it is the URL again, with its port.

    Raises:
        UsageError: naming the part that is wrong and what would be right.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator or scheme not in _SCHEMES:
        raise _bad(text, _unknown_scheme(text.strip()), _GUEST_FORMS)
    if scheme == "unix":
        return _unix(text, rest)
    address = _vsock(text, rest) if scheme == "vsock" else parse_tcp(text, rest)
    if address.port == 0:
        raise _bad(text, "port 0 cannot be dialled", f"the host's --listen port, by default {DEFAULT_PORT}")
    if isinstance(address, VsockAddress) and address.cid == CID_ANY:
        raise _bad(text, "CID 'any' cannot be dialled", f"the host's CID: vsock://2:{address.port}")
    return address


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Read a comma-separated list of guest addresses, in the order in which they shall be tried.

    Args:
        text: the value of ``MLXBRIDGE_URL``; a socket path in it can therefore have no comma.

    Returns:
        At least one address.

    Raises:
        UsageError: as ``parse_address``, or when the list is empty.
    """
    parts = [part for part in text.split(",") if part.strip()]
    if not parts:
        raise _bad(text, "there is no address in it", _GUEST_FORMS)
    return tuple(parse_address(part) for part in parts)


def parse_listen_option(text: str) -> Listen | Activation:
    """Read one ``--listen`` of the host.

    Args:
        text: as for ``parse_listen``, or ``launchd:NAME``, ``systemd`` or ``systemd:NAME``.

    Returns:
        What ``open_listeners`` takes.

    Raises:
        UsageError: naming the part that is wrong and what would be right.
    """
    manager, colon, name = text.strip().partition(":")
    if manager == "launchd":
        return Activation("launchd", _socket_name(text, manager, name))
    if manager == "systemd":
        return Activation("systemd", _socket_name(text, manager, name) if colon else None)
    return parse_listen(text)


def parse_listen(text: str) -> Listen:
    """Read what is to be bound.

    Args:
        text: ``unix:PATH[?mode=OCTAL]``, ``tcp:HOST[:PORT]``, ``vsock[:PORT]``, or their URL forms.

    Returns:
        What ``open_listener`` takes.

    Raises:
        UsageError: naming the part that is wrong and what would be right.
    """
    scheme, _, rest = text.strip().partition(":")
    if scheme not in _SCHEMES:
        raise _bad(text, _unknown_scheme(text.strip()), _LISTEN_FORMS)
    is_url = rest.startswith("//")
    place, question, query = rest.removeprefix("//").partition("?")
    if question and scheme != "unix":
        raise _bad(text, f"a {scheme} socket has no options", f"{scheme}:{place}")
    if scheme == "unix":
        return Listen(_unix(text, place), _mode(text, query) if question else None)
    if scheme == "vsock":
        return Listen(_vsock(text, place if is_url else f"any:{place or DEFAULT_PORT}"))
    return Listen(parse_tcp(text, place))


def _socket_name(text: str, manager: str, name: str) -> str:
    if not name:
        unnamed = ", or systemd alone for every socket" if manager == "systemd" else ""
        raise _bad(text, "the name of the socket is missing", f"{manager}:NAME{unnamed}")
    if len(name) > _MAX_NAME_CHARS or ":" in name or not (name.isascii() and name.isprintable()):
        raise _bad(text, f"{name!r} is no name of a socket", "up to 255 characters of ASCII without ':'")
    return name


def _unix(text: str, path: str) -> UnixAddress:
    if "?" in path:
        raise _bad(text, "a guest's unix address has no options", f"unix://{path.partition('?')[0]}")
    if not path.startswith("/"):
        raise _bad(text, f"path {path!r} is not absolute", f"for example unix:///{_rooted(path)}")
    return UnixAddress(path)


def _rooted(path: str) -> str:
    return path.lstrip("~./") or "run/mlxbridge.sock"


def _mode(text: str, query: str) -> int:
    name, _, digits = query.partition("=")
    if name != "mode":
        raise _bad(text, f"unknown option {name!r}", "?mode=0666")
    if not 3 <= len(digits) <= 4 or digits.strip("01234567") or int(digits, 8) > 0o777:
        raise _bad(
            text, f"mode {digits!r} is not a file mode", "three octal digits, as for chmod: ?mode=0666"
        )
    return int(digits, 8)


def _vsock(text: str, rest: str) -> VsockAddress:
    cid, colon, port = rest.partition(":")
    number = CID_ANY if cid == "any" else _number(text, "CID", cid, CID_ANY, "2, the host as a VM sees it")
    return VsockAddress(number, _port(text, port, MAX_VSOCK_PORT) if colon else DEFAULT_PORT)


def parse_tcp(text: str, rest: str, default_port: int = DEFAULT_PORT, scheme: str = "tcp://") -> TcpAddress:
    """Read ``HOST[:PORT]``, the host of IPv6 in brackets.

    Args:
        text: the whole address, for errors.
        rest: the part of it that is read.
        default_port: where it has none.
        scheme: what goes before it in examples.

    Raises:
        UsageError: naming the part that is wrong and what would be right.
    """
    example = f"{scheme}[::1]:{default_port}"
    if rest.startswith("["):
        host, closing, tail = rest[1:].partition("]")
        if not closing or (tail and not tail.startswith(":")):
            raise _bad(text, f"{rest!r} is not [IPv6]:PORT", f"for example {example}")
        _check_ipv6(text, host, example)
        colon, port = tail[:1], tail[1:]
    else:
        host, colon, port = rest.partition(":")
        if ":" in port:
            raise _bad(text, f"{rest!r} has several colons", f"an IPv6 host in brackets: {example}")
    if not host or (host.isdigit() and not colon):
        raise _bad(
            text, "the host is missing", "127.0.0.1 for this machine alone, 0.0.0.0 to listen everywhere"
        )
    if wrong := [char for char in host if char in "/@?#[]\\" or not char.isprintable() or char.isspace()]:
        raise _bad(text, f"host {host!r} has {wrong[0]!r} in it", "a plain host name or an IP address")
    return TcpAddress(host, _port(text, port, MAX_TCP_PORT, default_port) if colon else default_port)


def _check_ipv6(text: str, host: str, example: str) -> None:
    import ipaddress  # 5 ms that only bracketed hosts shall cost

    try:
        ipaddress.IPv6Address(host)
    except ValueError as exc:
        raise _bad(text, f"{host!r} is not an IPv6 address ({exc})", f"for example {example}") from exc


def _port(text: str, digits: str, largest: int, default: int = DEFAULT_PORT) -> int:
    return _number(text, "port", digits, largest, f"1 to {largest}; mlxbridge's own is {default}")


def _number(text: str, what: str, digits: str, largest: int, right: str) -> int:
    if not (digits.isascii() and digits.isdigit()):
        raise _bad(text, f"{what} {digits!r} is not a number", right)
    if len(digits) > 10 or int(digits) > largest:
        raise _bad(text, f"{what} {digits} is out of range", right)
    return int(digits)


def _unknown_scheme(text: str) -> str:
    """What is wrong with a text that starts with none of our schemes, with the nearest one that would do."""
    scheme, _, rest = text.partition(":")
    place = rest.lstrip("/")
    if not text:
        return "it is empty"
    if text.startswith("/"):
        return f"it has no scheme; did you mean unix://{text}?"
    if scheme in _SCHEMES:
        return f"'://' is missing; did you mean {scheme}://{'/' if scheme == 'unix' else ''}{place}?"
    if rest.isdigit():
        return f"it has no scheme; did you mean tcp://{text}?"
    if text.isdigit():
        return "it has no scheme"
    import difflib  # only a mistake pays for it

    near = "tcp" if scheme in ("http", "https", "ws", "wss", "grpc") else None
    near = near or next(iter(difflib.get_close_matches(scheme.lower(), _SCHEMES, cutoff=0.5)), None)
    return f"unknown scheme {scheme!r}" + (f"; did you mean {near}?" if near else "")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _bad(text: str, problem: str, right: str) -> UsageError:
    return UsageError(f"address {text!r}: {problem} (use {right})")
