"""Every bound of the protocol, and the set of bounds that a peer announces in its HELLO (SPEC.md §4)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from mlxbridge.errors import RemoteProtocolError, UsageError

KIB = 1024
MIB = 1024 * KIB

MAX_HANDSHAKE_HEAD_BYTES = 16 * KIB
"""Largest head before the handshake is over, whatever either side announces."""

MAX_SMALL_PAYLOAD_BYTES = 64
"""Largest payload of any frame that is not DATA (proofs, ping bodies)."""

MAX_ARRAY_ITEMS = 65_536
MAX_MAP_ITEMS = 4_096
"""Largest msgpack collections in a head. They are allocated from a five-byte claim, so they need a bound of
their own; long token-id lists travel as binary strings instead."""

MAX_TOTAL = (1 << 63) - 1
"""Largest credit total and deadline."""

MAX_CALL_ID = 0x7FFF_FFFF
"""The upper half is kept for calls that a later version may let the host open."""

MIN_HEAD_BYTES = 64 * KIB
MIN_PIECE_BYTES = 4 * KIB
"""No peer may announce less, so that a sender need not cope with absurdly small windows."""

LARGE_PIECE_BYTES = MIB
"""What an end may announce that would rather have large payloads fast; a piece of the default size costs twice the CPU time."""

SHARED_PIECE_BYTES = 256 * KIB
"""Largest piece while other calls of the connection are open, whatever the peer takes: they wait for it."""

MAX_QUEUED_ITEMS = 1_024
"""Items one call may hold back for a guest that gives no credit; past it the call fails."""

MAX_HELD_LOGPROB_BYTES = 4 * MIB
"""Logprobs one call may hold back for a guest that gives no credit, by their size on the wire; past it the call fails.
They are many times larger than the tokens they belong to."""

MAX_CONNECTION_LOGPROB_BYTES = 64 * MIB
"""Logprobs that all calls of a connection may hold back; past it, each call fails that would hold back more."""

MAX_KEPT_BYTES = 16 * MIB
MAX_KEPT_FRAMES = 4_096
"""Message frames that are kept until the peer has them, where a connection can be resumed; past it, it cannot."""

KEEPALIVE_INTERVAL_S = 15.0
KEEPALIVE_MISSES = 2
HANDSHAKE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one side is willing to receive.

    Attributes:
        max_head_bytes: msgpack head of one frame.
        max_piece_bytes: payload of one DATA frame.
        max_payload_bytes: one whole payload, over all its pieces.
        max_calls: calls open at once on the connection.
        max_unacked_frames: message frames in flight before the sender must wait for an ACK.
    """

    max_head_bytes: int = 4 * MIB
    max_piece_bytes: int = 256 * KIB
    max_payload_bytes: int = 1024 * MIB
    max_calls: int = 1_024
    max_unacked_frames: int = 128

    def to_wire(self) -> dict[str, int]:
        """The map under ``limits`` in HELLO."""
        return asdict(self)

    @classmethod
    def from_wire(cls, value: Any) -> Limits:
        """Check what a peer announced; a missing key takes this version's default, unknown keys are ignored.

        Raises:
            RemoteProtocolError: a value is not a number or below the protocol's minimum.
        """
        if not isinstance(value, dict):
            raise RemoteProtocolError("HELLO: limits must be a map")
        found: dict[str, int] = {}
        for name, least in _LEAST.items():
            number = value.get(name)
            if number is None:
                continue
            if type(number) is not int or number < least:
                raise RemoteProtocolError(f"HELLO: limits.{name} is not a number of at least {least}")
            found[name] = number
        return cls(**found)


_LEAST = {
    "max_head_bytes": MIN_HEAD_BYTES,
    "max_piece_bytes": MIN_PIECE_BYTES,
    "max_payload_bytes": 0,
    "max_calls": 1,
    "max_unacked_frames": 8,
}
assert _LEAST.keys() == {field.name for field in fields(Limits)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Credit a guest gives each call: ``items`` for tokens and stream items, ``bytes`` for payloads."""

    items: int = 256
    bytes: int = 4 * MIB

    def __post_init__(self) -> None:
        if not (0 <= self.items <= MAX_TOTAL and 0 <= self.bytes <= MAX_TOTAL):
            raise UsageError(f"windows must not be below 0: {self}")
