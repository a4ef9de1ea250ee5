"""Bytes as they come in: a small buffer for frames, and a way around it for payloads.

Frames are parsed in place from one buffer that grows only as bytes really arrive. While a DATA piece is open, the next
read goes straight into the payload's own memory instead, together with room for the header behind the piece: that
header is then taken back out, so a large payload costs neither a copy nor a read of its own for each header.
"""

from __future__ import annotations

from mlxbridge.protocol.frames import CHECKED_HEADER_BYTES

INITIAL_BYTES = 64 * 1024


class ReceiveBuffer:
    """The readable bytes are ``view[start:end]``; nothing is readable while a sink is filling."""

    __slots__ = ("_capacity", "_sink", "_sink_left", "end", "start", "view")

    def __init__(self) -> None:
        self.view = memoryview(bytearray(INITIAL_BYTES))
        self._capacity = INITIAL_BYTES
        self.start = 0
        self.end = 0
        self._sink: memoryview | None = None  # what of the payload is still to be filled
        self._sink_left = 0  # bytes of the open piece that are still to come

    @property
    def filling(self) -> bool:
        """Whether a payload piece is still incomplete."""
        return self._sink_left > 0

    def writable(self) -> memoryview:
        """Where the next bytes from the peer belong; never empty."""
        if self._sink_left and self._sink is not None:
            return self._sink[: self._sink_left + CHECKED_HEADER_BYTES]
        if self.end == self._capacity:
            self._make_room()
        return self.view[self.end :]

    def wrote(self, count: int) -> None:
        """``count`` bytes were put where ``writable`` said."""
        if not self._sink_left or self._sink is None:
            self.end += count
            return
        piece = min(count, self._sink_left)
        if count > piece:  # the next frame's header came along: move it to where frames are parsed
            extra = count - piece
            self.view[:extra] = self._sink[piece:count]
            self.start, self.end = 0, extra
        self._advance_sink(piece)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Copy in as much of ``data`` as ``writable`` has room for; how much that was."""
        room = self.writable()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        self.wrote(count)
        return count

    def skip(self, count: int) -> None:
        """Mark ``count`` readable bytes as used."""
        self.start += count
        if self.start == self.end:
            self.start = self.end = 0
            if self._capacity > INITIAL_BYTES:  # one large frame must not keep its memory for good
                self.view = memoryview(bytearray(INITIAL_BYTES))
                self._capacity = INITIAL_BYTES

    def clear(self) -> None:
        """Throw away what came: the connection is closed."""
        self._sink, self._sink_left = None, 0
        self.skip(self.end - self.start)

    def fill(self, sink: memoryview, piece_bytes: int) -> None:
        """Direct the next ``piece_bytes`` into ``sink``, whose rest is room for later pieces of the same payload."""
        self._sink, self._sink_left = sink, piece_bytes
        count = min(self.end - self.start, piece_bytes)
        sink[:count] = self.view[self.start : self.start + count]
        self.skip(count)
        self._advance_sink(count)

    def _advance_sink(self, count: int) -> None:
        assert self._sink is not None
        self._sink_left -= count
        self._sink = self._sink[count:] if self._sink_left else None

    def _make_room(self) -> None:
        used = self.end - self.start
        if self.start:
            self.view[:used] = self.view[self.start : self.end]
        else:
            self._capacity *= 2
            grown = memoryview(bytearray(self._capacity))
            grown[:used] = self.view[:used]
            self.view = grown
        self.start, self.end = 0, used
