"""Frames to bytes: what is to leave over one transport, and how far the peer has come with it (SPEC.md §3, §7, §8)."""

from __future__ import annotations

from collections.abc import Sequence

from mlxbridge.protocol.checksum import Checksum
from mlxbridge.protocol.codec import Buffer
from mlxbridge.protocol.frames import MAGIC
from mlxbridge.protocol.kept import Kept, KeptFrame

_NO_WINDOW = 1 << 62
"""The peer's ``max_unacked_frames``, as long as it is not known."""


class FrameWriter:
    """What waits to be written, in order. Message frames are counted over all transports, each once, as ACK counts them.

    Attributes:
        kept: what the peer may have missed, if the connection can be resumed.
        num_sent: message frames.
        num_acked: those of them that the peer has taken.
        paused: the transport is full.
    """

    __slots__ = (
        "_checksum",
        "_magic_sent",
        "_waiting",
        "_window",
        "kept",
        "num_acked",
        "num_sent",
        "paused",
    )

    def __init__(self) -> None:
        self.kept: Kept | None = None
        self.num_sent = 0
        self.num_acked = 0
        self.begin()

    def begin(self) -> None:
        """A transport is new: nothing has been written to it."""
        self.paused = False
        self._waiting: list[Buffer] = []
        self._magic_sent = False
        self._window = _NO_WINDOW
        self._checksum: Checksum | None = None  # of all frames behind the HELLOs, if that was agreed on

    def take_over(self, other: FrameWriter) -> None:
        """Write to the transport of another, which had the handshake, behind what that one has waiting."""
        self.begin()
        self.paused, self._magic_sent, self._checksum = other.paused, other._magic_sent, other._checksum
        self._waiting, other._waiting = other._waiting, []

    def add_checksums(self, checksum: Checksum) -> None:
        """From the next frame on all have them."""
        self._checksum = checksum

    def open(self, window: int) -> None:
        """Message frames may leave, until so many wait to be acknowledged."""
        self._window = window

    def stop(self) -> None:
        """The transport is lost: message frames wait for the next one, all else is forgotten."""
        self._waiting.clear()
        self._window = 0

    @property
    def blocked(self) -> bool:
        """Whether message frames have to wait."""
        return self.paused or self.num_sent - self.num_acked >= self._window

    @property
    def has_waiting(self) -> bool:
        """Whether ``take`` would give anything."""
        return bool(self._waiting)

    def say_magic(self) -> None:
        """Begin as both sides do, unless that was done."""
        if not self._magic_sent:
            self._magic_sent = True
            self._waiting.append(MAGIC)

    def emit(self, frame: Buffer, call: int = 0, payload: Sequence[Buffer] = ()) -> None:
        """Send a message frame; a DATA frame's payload lies elsewhere, and is not kept for a peer that missed it."""
        self.num_sent += 1
        if self.kept is not None:
            self.kept.add(call, None if payload else frame)
        self.put(frame, payload)

    def put(self, frame: Buffer, payload: Sequence[Buffer] = ()) -> None:
        """Send a control frame, or a message frame once more."""
        self._waiting.append(frame if self._checksum is None else self._checksum.seal(frame, payload))
        self._waiting += payload

    def take(self) -> list[Buffer]:
        """All that waits."""
        taken, self._waiting = self._waiting, []
        return taken

    def acknowledge(self, count: int) -> None:
        """The peer has taken so many message frames; not fewer than it has said before."""
        self.num_acked = max(self.num_acked, count)
        if self.kept is not None:
            self.kept.keep_last(self.num_sent - self.num_acked)

    def missed_after(self, received: int) -> list[KeptFrame] | None:
        """The message frames behind so many, which the peer has got; None if they are not kept any more."""
        num_missed = self.num_sent - received
        if self.kept is None or not 0 <= num_missed <= len(self.kept):
            return None
        self.kept.keep_last(num_missed)
        self.num_acked = received
        return self.kept.frames
