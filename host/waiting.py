"""How much may wait, in all and of one guest; wherever calls wait outside the engine, one of these says."""

from __future__ import annotations

from collections import Counter
from math import inf

from mlxbridge.host.engine.interface import GUEST_SHARE


class WaitingRoom:
    """Counts calls and their bytes. A guest may have at most ``GUEST_SHARE`` times as much waiting as is still free.

    Attributes:
        num_bytes: what all that waits takes.
    """

    def __init__(self) -> None:
        self.num_bytes = 0
        self._calls: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._calls.total()

    def calls_of(self, guest: str) -> int:
        """Calls of a guest that wait."""
        return self._calls[guest]

    def bytes_of(self, guest: str) -> int:
        """What a guest's calls that wait take."""
        return self._bytes[guest]

    def has_room(self, guest: str, num_bytes: int, *, max_bytes: int, max_calls: float = inf) -> bool:
        """Whether one more call of this guest may wait, if so much may wait in all."""
        free, free_bytes = max_calls - len(self), max_bytes - self.num_bytes
        return (
            free > 0
            and num_bytes <= free_bytes
            and self._calls[guest] < GUEST_SHARE * free
            and self._bytes[guest] + num_bytes <= GUEST_SHARE * free_bytes
        )

    def enter(self, guest: str, num_bytes: int) -> None:
        """A call begins to wait."""
        self.num_bytes += num_bytes
        self._calls[guest] += 1
        self._bytes[guest] += num_bytes

    def leave(self, guest: str, num_bytes: int) -> None:
        """A call that entered with so many bytes waits no longer."""
        self.num_bytes -= num_bytes
        self._calls[guest] -= 1
        self._bytes[guest] -= num_bytes
        if not self._calls[guest]:
            del self._calls[guest], self._bytes[guest]
