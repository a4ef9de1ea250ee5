"""How long to wait before something is tried again; does no I/O."""

from __future__ import annotations

import random


class Pauses:
    """Pauses that double, of which each is drawn anew, lest all guests of a host come back at once.

    (Brooker, "Exponential Backoff and Jitter", AWS 2015: full jitter.)

    Args:
        first_s: the longest that the first one may be, in seconds.
        most_s: the longest that any may be.
    """

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._longest_s = first_s

    def next_s(self) -> float:
        """Seconds of the next one."""
        pause_s = random.uniform(0, self._longest_s)
        self._longest_s = min(2 * self._longest_s, self._most_s)
        return pause_s

    def begin_anew(self) -> None:
        """With short ones."""
        self._longest_s = self._first_s
