"""Deaths of a model's workers: how long to wait after each, and when to give up; bookkeeping, with time handed in."""

from __future__ import annotations

import random
from typing import Any

from mlxbridge.errors import WorkerLost

BACKOFF_FIRST_S = 0.25
BACKOFF_MOST_S = 30.0
STABLE_S = 60.0
CRASHES_TO_FAIL = 6


class Crashes:
    """Owns the count.

    Args:
        name: the model's, for the error.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._num_restarts = 0
        self._in_a_row = 0
        self._last = ""

    @property
    def is_loop(self) -> bool:
        """Whether there were too many in a row."""
        return self._in_a_row >= CRASHES_TO_FAIL

    def describe(self) -> dict[str, Any]:
        """What ``models`` tells of it; nothing, if there were none."""
        entry: dict[str, Any] = {}
        if self._num_restarts:
            entry["restarts"] = self._num_restarts
        if self._last:
            entry |= {
                "crashes": self._in_a_row,
                "last_crash": self._last,
                "crash_loop": self.is_loop,
            }
        return entry

    def note(self, reason: str, *, ready_for_s: float | None) -> float:
        """A worker has died.

        Args:
            reason: how, as in "was killed by SIGKILL".
            ready_for_s: how long it had been ready; None: it never was. The time it took to load says nothing.

        Returns:
            Seconds to wait before the next one is started.

        Raises:
            WorkerLost: that was one too many.
        """
        is_new = ready_for_s is not None and ready_for_s > STABLE_S
        self._in_a_row = 1 if is_new else self._in_a_row + 1
        self._last = reason
        if self.is_loop:
            raise WorkerLost(
                f"the worker of {self._name} has ended {self._in_a_row} times in a row (it {reason}); calls are refused "
                f"until somebody asks to load it, as `mlxbridge load {self._name}` does",
                retryable=False,
                details={"crashes": self._in_a_row, "last_crash": reason},
            )
        self._num_restarts += 1
        delay_s: float = BACKOFF_FIRST_S * 2 ** (self._in_a_row - 1)
        return min(BACKOFF_MOST_S, delay_s) * random.uniform(0.8, 1.2)

    def forget(self) -> None:
        """Somebody asks for the model again: it has all its chances. How often it was started again stays."""
        self._in_a_row, self._last = 0, ""
