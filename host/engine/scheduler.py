"""Who waits, who is next, and how much of a step prompts may take; plain bookkeeping, no arrays.

The life of a call: it waits in order of arrival until one of ``max_running`` is over, its prompt is read a chunk a
step beside the running answers, then it is decoded with the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

MAX_FILLER_SHARE = 0.15

# A step with prefill may take so many times what one without takes: the gap that running answers see.
TARGET_GAP = 2.4
# But a chunk has a cost of its own, however short it is. It is not made so short that a prompt's token costs more
# than this many times what it has cost in longer ones: that would starve the prompts and help nobody.
_MAX_TOKEN_COST = 2.0
# Without running answers only cancelling waits for the end of a step.
TARGET_STEP_S = 0.25
MIN_BUDGET = 16
_FIRST_BUDGET = 64
_FIRST_BUDGET_ALONE = 512
# A step that read less than this share of its budget (which is rounded down) does not show that
# the budget could be larger.
_FULL = 0.6


def group_of(
    lengths: Sequence[int], *, lead: int, can_pad: bool, max_rows: int, max_tokens: int
) -> list[int]:
    """Which prompts to read side by side with one that must be among them.

    Args:
        lengths: tokens to read of each, in order of arrival.
        lead: index of the one that must be.
        can_pad: whether lengths may differ; fillers then stay below ``MAX_FILLER_SHARE`` of what is read.
        max_rows: at most so many.
        max_tokens: at most so many tokens in all, unless the lead alone has more.

    Returns:
        Indices into ``lengths``, the lead's among them, in order of arrival.
    """
    chosen, longest, total = [lead], lengths[lead], lengths[lead]
    others = (index for index in range(len(lengths)) if index != lead)
    for index in sorted(others, key=lambda index: abs(lengths[index] - lengths[lead])):
        if len(chosen) >= max_rows:
            break
        width = max(longest, lengths[index])
        area = width * (len(chosen) + 1)
        is_even = lengths[index] == lengths[lead]
        if not is_even and (not can_pad or total + lengths[index] <= (1 - MAX_FILLER_SHARE) * area):
            break
        if area > max_tokens:
            break
        chosen.append(index)
        longest, total = width, total + lengths[index]
    return sorted(chosen)


class PrefillBudget:
    """How many prompt tokens a step may read, from what steps have taken so far.

    Beside running answers the steps without prefill are the measure; what those with prefill take beyond it is
    steered towards ``TARGET_GAP``, in few different sizes, since a new shape costs some back ends extra. With nothing running, steps are steered towards ``TARGET_STEP_S``.
    """

    def __init__(self, largest: int, *, largest_alone: int, least: int = MIN_BUDGET) -> None:
        """Take the bounds, in tokens a step, beside running answers and without any."""
        self._least = min(least, largest)
        self._largest = largest
        self._largest_alone = largest_alone
        self._beside = float(max(self._least, min(_FIRST_BUDGET, largest)))
        self._alone = float(min(_FIRST_BUDGET_ALONE, largest_alone))
        self._plain_steps: deque[float] = deque(maxlen=32)
        # Seconds that a prompt's token took.
        self._token_costs: deque[float] = deque(maxlen=64)

    def tokens(self, *, is_decoding: bool) -> int:
        """The next step's budget."""
        tokens = int(self._beside if is_decoding else self._alone)
        return _rounded(tokens) if tokens > MIN_BUDGET else tokens

    def observe(self, seconds: float, *, num_read: int, is_decoding: bool) -> None:
        """Learn from a step, but not from one in which rows joined: a smaller budget would not make that cheaper.

        Args:
            seconds: what it took.
            num_read: prompt tokens that were computed in it.
            is_decoding: whether answers were running in it.
        """
        if is_decoding and not num_read:
            self._plain_steps.append(seconds)
        elif is_decoding and self._plain_steps:
            plain = median(self._plain_steps)
            extra = max(seconds - plain, 1e-6)
            factor = _factor((TARGET_GAP - 1) * plain / extra)
            if self._is_costly(extra / num_read):
                factor = 1.5
            self._beside = max(self._next(self._beside, factor, num_read, self._largest), self._least)
        elif num_read and not is_decoding:
            self._token_costs.append(seconds / num_read)
            factor = _factor(TARGET_STEP_S / max(seconds, 1e-6))
            self._alone = self._next(self._alone, factor, num_read, self._largest_alone)

    def _is_costly(self, token_cost: float) -> bool:
        self._token_costs.append(token_cost)
        return token_cost > _MAX_TOKEN_COST * min(self._token_costs)

    @staticmethod
    def _next(budget: float, factor: float, num_read: int, largest: int) -> float:
        if factor > 1 and num_read < _FULL * budget:
            return budget
        return min(max(budget * factor, MIN_BUDGET), largest)


def _rounded(tokens: int) -> int:
    """Down to a power of two, or to one and a half."""
    power = 1 << (tokens.bit_length() - 1)
    return power + power // 2 if tokens >= power + power // 2 else power


def _factor(wanted: float) -> float:
    return min(max(wanted, 0.4), 1.5)
