"""Checksums of frames, for transports on whose bytes nobody can rely (SPEC.md §3).

A frame's checksum begins with that of both HELLO heads, so a HELLO that was changed under way shows with the first frame
behind it. The header has one of its own: a wrong length would have the receiver wait for bytes that never come.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from mlxbridge.protocol.codec import Buffer
from mlxbridge.protocol.frames import CHECKED_HEADER_BYTES, HEADER_BYTES

_SUMMED_HEADER_BYTES = HEADER_BYTES - 2
_HEADER_SUM = Struct("<H")
_FRAME_SUM = Struct("<I")


class Damaged(Exception):
    """What came is not what was sent."""


class FrameSum(NamedTuple):
    """The checksum of what has come of a frame, and what that of the whole frame is to be."""

    found: int
    expected: int

    def check(self, rest: Buffer = b"") -> None:
        """Compare, once the rest of the frame has come.

        Raises:
            Damaged: they differ.
        """
        if crc32(rest, self.found) != self.expected:
            raise Damaged("a frame's checksum is wrong")


class Checksum:
    """Those of one connection.

    Args:
        hellos: both HELLO heads as they were on the wire, the guest's first.
    """

    def __init__(self, hellos: bytes) -> None:
        self._seed = crc32(hellos)

    def seal(self, frame: Buffer, payload: Iterable[Buffer] = ()) -> bytes:
        """A frame without checksums, as it is to be sent; its payload may lie elsewhere, in parts, and is sent behind it."""
        summed = bytes(frame[:_SUMMED_HEADER_BYTES])
        header = summed + _HEADER_SUM.pack(crc32(summed, self._seed) & 0xFFFF)
        rest = frame[HEADER_BYTES:]
        found = crc32(rest, crc32(header, self._seed))
        for part in payload:
            found = crc32(part, found)
        return header + _FRAME_SUM.pack(found) + rest

    def check_header(self, header: Buffer, given: int) -> None:
        """Look at a frame's 16 bytes, before its lengths are believed.

        Raises:
            Damaged: they are not what was sent.
        """
        if crc32(header[:_SUMMED_HEADER_BYTES], self._seed) & 0xFFFF != given:
            raise Damaged("a header's checksum is wrong")

    def read(self, frame: Buffer) -> FrameSum:
        """The checksums of a frame, or of one whose end is still to come."""
        found = crc32(frame[CHECKED_HEADER_BYTES:], crc32(frame[:HEADER_BYTES], self._seed))
        return FrameSum(found, *_FRAME_SUM.unpack(frame[HEADER_BYTES:CHECKED_HEADER_BYTES]))
