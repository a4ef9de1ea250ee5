"""Message frames that the peer may have missed, kept until it says that it has them (SPEC.md §8)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from mlxbridge.protocol.codec import Buffer
from mlxbridge.protocol.limits import MAX_KEPT_BYTES, MAX_KEPT_FRAMES

KeptFrame = tuple[int, Buffer | None]
"""The call it belongs to, 0 for TOKENS; the frame without checksums, None of one that is not kept: a piece of a payload."""


class Kept:
    """The latest frames that were sent, without gaps. The oldest are dropped past a bound: then nobody can come back for them."""

    __slots__ = ("_frames", "num_bytes")

    def __init__(self) -> None:
        self._frames: deque[KeptFrame] = deque()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, call: int, frame: Buffer | None) -> None:
        """A frame is sent."""
        self._frames.append((call, frame))
        if frame is not None:
            self.num_bytes += len(frame)
        while self.num_bytes > MAX_KEPT_BYTES or len(self._frames) > MAX_KEPT_FRAMES:
            self._drop_first()

    def keep_last(self, count: int) -> None:
        """The peer has all but so many."""
        while len(self._frames) > count:
            self._drop_first()

    def drop_until(self, call: int) -> None:
        """The peer has all that belongs to this call and to those before it."""
        while self._frames and self._frames[0][0] <= call:
            self._drop_first()

    @property
    def frames(self) -> list[KeptFrame]:
        """All of them, in order."""
        return list(self._frames)

    def replace(self, frames: Iterable[KeptFrame]) -> None:
        """Other frames are sent in their place."""
        self._frames = deque(frames)
        self.num_bytes = sum(len(frame) for _, frame in self._frames if frame is not None)

    def _drop_first(self) -> None:
        _, frame = self._frames.popleft()
        if frame is not None:
            self.num_bytes -= len(frame)
