"""Where a gateway listens for HTTP, and which web pages may ask it, as people write them."""

from __future__ import annotations

import re

from mlxbridge.addresses import Listen, TcpAddress, parse_listen, parse_tcp
from mlxbridge.errors import UsageError

DEFAULT_HTTP_PORT = 8000
DEFAULT_HTTP_LISTEN = f"127.0.0.1:{DEFAULT_HTTP_PORT}"
ANY_ORIGIN = "*"

_OF_TCP = ("http", "tcp")
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?P<port>:[0-9]{1,5})?"
)
_LEFT_OUT = {"http": ":80", "https": ":443"}
"""Ports that browsers leave out of an origin (RFC 6454, §6.2)."""


class HttpListen(Listen):
    """One ``--listen`` of the gateway; ``str()`` of it is what ``parse_http_listen`` takes."""

    __slots__ = ()

    def __str__(self) -> str:
        if isinstance(self.address, TcpAddress):
            return str(self.address).replace("tcp://", "http://")
        return super().__str__()


def parse_http_listen(text: str) -> HttpListen:
    """Read what the gateway is to bind.

    Args:
        text: ``HOST[:PORT]`` (8000 if left out, 0: any free one), also as URL, or ``unix:PATH[?mode=OCTAL]``.

    Returns:
        What ``open_listener`` takes.

    Raises:
        UsageError: naming the part that is wrong and what would be right.
    """
    place = text.strip()
    scheme, _, rest = place.partition(":")
    if scheme == "unix":
        listen = parse_listen(place)
        return HttpListen(listen.address, listen.mode)
    if scheme in _OF_TCP:
        place = rest.removeprefix("//").removesuffix("/")
    elif scheme == "vsock" or rest.startswith("//"):
        raise UsageError(
            f"address {text!r}: HTTP is spoken over TCP and unix sockets (use HOST:PORT or unix:PATH)"
        )
    return HttpListen(parse_tcp(text, place, DEFAULT_HTTP_PORT, "http://"))


def parse_origin(text: str) -> str:
    """Read the origin of web pages, as browsers tell it: ``https://app.example``, ``http://localhost:3000``; or ``*``.

    Raises:
        UsageError: no browser would tell it so.
    """
    origin = text.strip().lower()
    if origin in (ANY_ORIGIN, "null"):  # which pages of files have
        return origin
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        raise UsageError(
            f"origin {text!r}: must be a scheme and a host, with a port if it has one and no path, such as "
            f"https://app.example or http://localhost:3000; or {ANY_ORIGIN} for all"
        )
    port = found["port"] or ""
    return origin.removesuffix(port) if port == _LEFT_OUT.get(found["scheme"]) else origin
