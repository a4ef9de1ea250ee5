"""Which host to call, and with which token."""

from __future__ import annotations

import os
import stat

from mlxbridge.addresses import Address, UnixAddress, parse_addresses
from mlxbridge.errors import HostNotFound, TransportError, UsageError
from mlxbridge.protocol.handshake import Token, parse_token

_SETUP_HINT = (
    "start a host with `mlxbridge-host serve`, mount its socket here, and set MLXBRIDGE_URL "
    "(unix:///path, vsock://2:2048 or tcp://host:2048)"
)


def find_addresses(url: str | None) -> tuple[Address, ...]:
    """Where a host may be: ``url`` (a comma list), else ``MLXBRIDGE_URL``, else the usual sockets that exist.

    Raises:
        UsageError: an address cannot be read.
        HostNotFound: nothing was named and no usual socket exists.
    """
    named = url or os.environ.get("MLXBRIDGE_URL")
    if named:
        return parse_addresses(named)
    usual = usual_sockets()
    found = tuple(UnixAddress(path) for path in usual if _is_socket(path))
    if not found:
        raise HostNotFound(
            f"no host found: MLXBRIDGE_URL is not set, and there is no socket at {', '.join(usual)}; {_SETUP_HINT}"
        )
    return found


def usual_sockets() -> list[str]:
    """The socket paths that are looked at, in order; the last one is where a host listens by default."""
    paths = ["/run/mlxbridge.sock", "/run/mlxbridge/mlxbridge.sock"]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        paths.append(f"{runtime}/mlxbridge.sock")
    return [*paths, os.path.expanduser("~/.mlxbridge/run/mlxbridge.sock")]


def find_token(token: str | None) -> Token | None:
    """The token: ``token``, else ``MLXBRIDGE_TOKEN``, else the first in the file ``MLXBRIDGE_TOKEN_FILE``; None for none.

    Empty lines of the file and lines that begin with ``#`` do not count.

    Raises:
        UsageError: it is not a token, or the file cannot be read.
    """
    text = token or os.environ.get("MLXBRIDGE_TOKEN")
    path = os.environ.get("MLXBRIDGE_TOKEN_FILE")
    if not text and path:
        try:
            with open(path, encoding="utf-8") as file:
                text = next((line for line in map(str.strip, file) if line and not line.startswith("#")), "")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"MLXBRIDGE_TOKEN_FILE: cannot read {path}: {error}") from error
        if not text:
            raise UsageError(f"MLXBRIDGE_TOKEN_FILE: {path} has no token in it")
    return parse_token(text) if text else None


def nothing_answered(failures: list[tuple[Address, TransportError]]) -> TransportError:
    """The error for a list of addresses of which none answered."""
    if len(failures) == 1:
        return failures[0][1]
    tried = "".join(f"\n  {address}: {error.message}" for address, error in failures)
    return HostNotFound(f"none of {len(failures)} addresses answered:{tried}")


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
