"""How many tokens a second a worker has made lately: bookkeeping alone, with time handed in."""

from __future__ import annotations

from bisect import bisect_right

WINDOW_S = 10.0
_SAMPLE_S = 0.5


class Rate:
    """Samples a counter.

    Attributes:
        next_at: when the next sample is wanted: before the first work that is done from then on.
    """

    def __init__(self) -> None:
        self._times: list[float] = []
        self._totals: list[int] = []
        self.next_at = 0.0

    def note(self, now: float, total: int) -> None:
        """The counter has come so far."""
        self.next_at = now + _SAMPLE_S
        old = max(0, bisect_right(self._times, now - WINDOW_S) - 1)
        self._times = [*self._times[old:], now]
        self._totals = [*self._totals[old:], total]

    def per_second(self, now: float, total: int) -> float:
        """Over the last ``WINDOW_S`` seconds, those without work among them; ``total`` is the counter's now."""
        begin = now - WINDOW_S
        later = bisect_right(self._times, begin)
        following = [*self._totals, total][later]
        # What was counted between two samples that are far apart was counted soon after the first one.
        is_counted = later == 0 or begin - self._times[later - 1] > _SAMPLE_S
        before = following if is_counted else self._totals[later - 1]
        return (total - before) / WINDOW_S
