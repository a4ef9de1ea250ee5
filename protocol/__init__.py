"""The mlxbridge wire protocol, without I/O: bytes in, events out; methods in, bytes out (SPEC.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlxbridge.protocol.guest import GuestConnection
from mlxbridge.protocol.handshake import Token, parse_token
from mlxbridge.protocol.limits import Limits, Windows

if TYPE_CHECKING:
    from mlxbridge.protocol.host import HostConnection

__all__ = ["GuestConnection", "HostConnection", "Limits", "Token", "Windows", "parse_token"]


def __getattr__(name: str) -> Any:
    if name != "HostConnection":  # the end that a guest has no use for
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mlxbridge.protocol.host import HostConnection

    return HostConnection
