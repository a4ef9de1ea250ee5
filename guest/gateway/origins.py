"""Which web pages may ask: a browser lets every page send requests to this machine's ports.

Without this check any page that somebody looks at could delete models, and one whose name its owner points to 127.0.0.1
(DNS rebinding) could read answers too.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from mlxbridge.guest.gateway.problem import Problem

_LOCAL_SUFFIXES = (".localhost", ".local", ".internal")
"""Names that nobody can have in public DNS (RFC 6761, RFC 6762, and ICANN for .internal)."""


class Origins:
    """Lets requests in by their ``Origin`` and ``Host``.

    Args:
        allowed: origins of other pages, or "*".
        checks_host: take only names that this machine can have; for gateways that listen on loopback alone.
    """

    def __init__(self, allowed: tuple[str, ...], *, checks_host: bool) -> None:
        self._allowed = frozenset(allowed)
        self._checks_host = checks_host

    def check(self, headers: Headers) -> None:
        """Let a request in.

        Raises:
            Problem: 403.
        """
        host = headers.get("host", "")
        if self._checks_host and not _is_own(host):
            raise Problem(
                403,
                f"host {host!r} is not a name of this machine's own; ask localhost",
                code="permission_denied",
            )
        origin = headers.get("origin")
        if origin is None or "*" in self._allowed or origin in self._allowed:
            return
        if _place(origin) != host:
            raise Problem(
                403,
                f"pages of {origin!r} may not ask; --cors-origin lets them",
                code="permission_denied",
            )


def _place(origin: str) -> str | None:
    """Host and port of an origin; None if it is none, such as ``http://[``."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _is_own(host: str) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:  # brackets with no IPv6 address in them
        return False
    if (
        not name
        or name == "localhost"
        or name == socket.gethostname().lower()
        or name.endswith(_LOCAL_SUFFIXES)
    ):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name  # what a container's own network calls it
    return True
