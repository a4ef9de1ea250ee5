"""After a failed step: which calls might be to blame, and how many may run; plain bookkeeping.

When rows that are decoded together fail, nobody knows whose fault it was. All of them are suspects: each is read
again, and has to get one token through by itself before it may join others. One that fails by itself is to blame. If
nobody is, or if memory ran out, it was too much at once: half as many may run, and slowly more again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, TypeVar

# Steps without a failure, after which twice as many calls may run.
CALM_STEPS = 256

T = TypeVar("T")


class Suspicion(Generic[T]):
    """Owns the suspects.

    Attributes:
        limit: calls that may run.
    """

    def __init__(self, max_running: int) -> None:
        self.limit = max_running
        self._max_running = max_running
        self._suspects: set[T] = set()
        # Whether somebody is to blame for the last failure, as far as is known.
        self._is_open = False
        self._num_calm = 0

    def __contains__(self, call: T) -> bool:
        return call in self._suspects

    def failed(self, calls: Collection[T], *, num_running: int, is_memory: bool) -> None:
        """Calls failed together.

        Args:
            calls: those that were computed together.
            num_running: all that ran.
            is_memory: whether that is why.
        """
        if is_memory or self._is_open:
            self.limit = max(1, min(self.limit, num_running) // 2)
        if not is_memory:
            self._suspects.update(calls)
            self._is_open = True
        self._num_calm = 0

    def acquit(self, call: T) -> None:
        """A call got a token through by itself, or ended for some other reason."""
        self._suspects.discard(call)

    def blame(self, call: T) -> None:
        """A call failed by itself: the others had nothing to do with it."""
        if call in self._suspects:
            self._is_open = False
            self.limit = self._max_running
        self.acquit(call)

    def step(self) -> None:
        """A step has passed without a failure."""
        self._num_calm += 1
        if self._num_calm % CALM_STEPS == 0:
            self._is_open = False
            self.limit = min(2 * self.limit, self._max_running)
