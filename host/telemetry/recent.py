"""How the calls of the last minute went, model by model: bookkeeping alone, with time handed in."""

from __future__ import annotations

import statistics
from collections import deque
from typing import Any, NamedTuple

from mlxbridge.host.telemetry.request import EndedRequest

WINDOW_S = 60.0
MAX_CALLS = 1024


class _End(NamedTuple):
    """What is kept of a call. No more: its error alone would keep all that was at hand where it was raised, prompts too."""

    at: float
    has_failed: bool
    time_to_first_token: float | None
    queue_seconds: float | None
    tokens_per_second: float | None


class Recent:
    """Owns what ``status`` tells of calls that have ended: in the last ``WINDOW_S``, of each model at most ``MAX_CALLS``."""

    def __init__(self) -> None:
        self._ends: dict[str, deque[_End]] = {}

    def __len__(self) -> int:
        """Models of which something is kept."""
        return len(self._ends)

    def note(self, ended: EndedRequest, now: float) -> None:
        """A call has ended; one that found no model is of no account."""
        model = ended.request.model
        if model is None:
            return
        ends = self._ends.get(model)
        if ends is None:
            self._forget_models(now)
            ends = self._ends[model] = deque(maxlen=MAX_CALLS)
        ends.append(
            _End(
                now,
                ended.error is not None,
                ended.time_to_first_token,
                ended.queue_seconds,
                ended.tokens_per_second,
            )
        )
        _forget_old(ends, now)

    def describe(self, model: str, now: float) -> dict[str, Any]:
        """Medians and 95th percentiles over the calls of a model, for its entry in ``status`` (SPEC.md §10).

        Each is there if a call tells of it: those that failed or were cancelled do not.
        """
        ends = self._ends.get(model, deque())
        _forget_old(ends, now)
        if not ends:
            self._ends.pop(model, None)
        recent: dict[str, Any] = {
            "window_s": WINDOW_S,
            "calls": len(ends),
            "failed": sum(end.has_failed for end in ends),
        }
        ttft = [value for end in ends if (value := end.time_to_first_token) is not None]
        queue = [value for end in ends if (value := end.queue_seconds) is not None]
        speed = [value for end in ends if (value := end.tokens_per_second) is not None]
        if ttft:
            recent |= {"ttft_ms": _ms(statistics.median(ttft)), "ttft_ms_p95": _ms(percentile(ttft, 95))}
        if queue:
            recent |= {"queue_ms": _ms(statistics.median(queue)), "queue_ms_p95": _ms(percentile(queue, 95))}
        if speed:
            recent["call_tokens_per_s"] = round(statistics.median(speed), 1)
        return recent

    def _forget_models(self, now: float) -> None:
        """Those whose calls are all old: of a model that is served no longer nobody asks."""
        for model, ends in list(self._ends.items()):
            _forget_old(ends, now)
            if not ends:
                del self._ends[model]


def percentile(values: list[float], percent: int) -> float:
    """The least value that so many percent of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _forget_old(ends: deque[_End], now: float) -> None:
    while ends and ends[0].at <= now - WINDOW_S:
        ends.popleft()


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
