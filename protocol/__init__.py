"""The mlxbridge wire protocol, without I/O: bytes in, events out; methods in, bytes out (SPEC.md)."""

from __future__ import annotations

from mlxbridge.protocol.guest import GuestConnection
from mlxbridge.protocol.handshake import Token, parse_token
from mlxbridge.protocol.host import HostConnection
from mlxbridge.protocol.limits import Limits, Windows

__all__ = ["GuestConnection", "HostConnection", "Limits", "Token", "Windows", "parse_token"]
