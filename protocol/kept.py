"""Message frames that the peer may have missed, kept until it says that it has them (SPEC.md §8)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from mlxbridge.protocol.codec import Buffer
from mlxbridge.protocol.limits import MAX_KEPT_BYTES, MAX_KEPT_FRAMES

KeptFrame = tuple[int, Buffer | None]
"""The call it belongs to, 0 for TOKENS; the frame without checksums, None of one that is not kept: a piece of a payload."""


class Kept:
    """The latest frames that were sent, without gaps. The oldest are dropped past a bound: then nobody can come back for them.

    Args:
        pool: bounds what is kept with others; None: it is alone.
    """

    __slots__ = ("_frames", "_pool", "num_bytes")

    def __init__(self, pool: KeptPool | None = None) -> None:
        self.num_bytes = 0
        self._frames: deque[KeptFrame] = deque()
        self._pool = pool
        if pool is not None:
            pool.add(self)

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, call: int, frame: Buffer | None) -> None:
        """A frame is sent."""
        self._frames.append((call, frame))
        if frame is not None:
            self._count(len(frame))
        while self.num_bytes > MAX_KEPT_BYTES or len(self._frames) > MAX_KEPT_FRAMES:
            self._drop_first()
        if self._pool is not None:
            self._pool.fit()

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
        self._count(sum(len(frame) for _, frame in self._frames if frame is not None) - self.num_bytes)

    def clear(self) -> None:
        """Keep none of them: only a peer that has got all can come back."""
        self._frames.clear()
        self._count(-self.num_bytes)

    def close(self) -> None:
        """Nobody will come back any more."""
        self.clear()
        if self._pool is not None:
            self._pool.remove(self)

    def _drop_first(self) -> None:
        _, frame = self._frames.popleft()
        if frame is not None:
            self._count(-len(frame))

    def _count(self, more: int) -> None:
        self.num_bytes += more
        if self._pool is not None:
            self._pool.num_bytes += more


class KeptPool:
    """Bounds what is kept on many connections together.

    Past the bound the connection that keeps most keeps nothing of it any more: one that a peer has stalled must not cost others
    their frames. (Longest queue drop: Choudhury and Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches",
    IEEE/ACM Transactions on Networking 6(2), 1998, and what it cites.)

    Args:
        max_bytes: of all frames.

    Attributes:
        num_bytes: what they take now; the connections count.
    """

    def __init__(self, max_bytes: int) -> None:
        self.num_bytes = 0
        self._max_bytes = max_bytes
        self._members: set[Kept] = set()

    def add(self, kept: Kept) -> None:
        """Another connection keeps frames."""
        self._members.add(kept)

    def remove(self, kept: Kept) -> None:
        """One keeps none any more."""
        self._members.discard(kept)

    def fit(self) -> None:
        """Bring all back within the bound."""
        while self.num_bytes > self._max_bytes:
            max(self._members, key=lambda kept: kept.num_bytes).clear()
