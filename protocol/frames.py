"""The frame header, and the numbers of frame types and flags (SPEC.md §3)."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct

MAGIC = b"MLXB"
"""First bytes of each direction, before the first frame."""

HEADER = Struct("<IIIBBH")
"""length, head length, call, type, flags, reserved: 16 bytes, little-endian."""

HEADER_BYTES = HEADER.size
CHECKED_HEADER_BYTES = HEADER_BYTES + 4
"""Where frames have checksums: the frame's own is behind the header, the header's in place of the reserved bits."""

pack_header = HEADER.pack


class FrameType(IntEnum):
    """Numbers below 16 concern the connection, those from 16 a call."""

    HELLO = 1
    AUTH = 2
    READY = 3
    GOAWAY = 4
    PING = 5
    PONG = 6
    ACK = 7

    CALL = 16
    CANCEL = 17
    CREDIT = 18

    ITEM = 32
    TOKENS = 33
    DATA = 34
    RESULT = 35
    ERROR = 36


class Flag(IntFlag):
    """MORE: the payload goes on in the next DATA frame of this call. IGNORABLE: skip the frame if its type is unknown."""

    MORE = 0x01
    IGNORABLE = 0x80


KNOWN_FLAGS = int(Flag.MORE | Flag.IGNORABLE)

COUNTED = frozenset(
    {FrameType.CALL, FrameType.ITEM, FrameType.TOKENS, FrameType.DATA, FrameType.RESULT, FrameType.ERROR}
)
"""Message frames: they count against ``max_unacked_frames``; control frames never wait."""

WITH_PAYLOAD = frozenset({FrameType.HELLO, FrameType.AUTH, FrameType.PING, FrameType.PONG, FrameType.DATA})
WITHOUT_CALL = frozenset(t for t in FrameType if t < FrameType.CALL) | {FrameType.TOKENS}


def encode_frame(
    kind: FrameType, call: int, head: bytes = b"", payload: bytes = b"", flags: int = 0
) -> bytes:
    """One whole frame. For DATA, whose payload is not copied, the connection packs the header alone."""
    return pack_header(len(head) + len(payload), len(head), call, kind, flags, 0) + head + payload
