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
TARGET_GAP = 2.2
# Without running answers only cancelling waits for the end of a step.
TARGET_STEP_S = 0.25
MIN_BUDGET = 16
_FIRST_BUDGET = 64
_FIRST_BUDGET_ALONE = 512
# A step that read less than this share of its budget does not show that the budget could be larger.
_FULL = 0.9


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
    steered towards ``TARGET_GAP``. With nothing running, steps are steered towards ``TARGET_STEP_S``.
    """

    def __init__(self, largest: int, *, largest_alone: int) -> None:
        """Take the bounds, in tokens a step, beside running answers and without any."""
        self._largest = largest
        self._largest_alone = largest_alone
        self._beside = float(min(_FIRST_BUDGET, largest))
        self._alone = float(min(_FIRST_BUDGET_ALONE, largest_alone))
        self._plain_steps: deque[float] = deque(maxlen=32)

    def tokens(self, *, is_decoding: bool) -> int:
        """The next step's budget."""
        return int(self._beside if is_decoding else self._alone)

    def observe(self, seconds: float, *, num_read: int, is_decoding: bool) -> None:
        """Learn from a step.

        Args:
            seconds: what it took.
            num_read: prompt tokens that were computed in it.
            is_decoding: whether answers were running in it.
        """
        if is_decoding and not num_read:
            self._plain_steps.append(seconds)
        elif is_decoding and self._plain_steps:
            plain = median(self._plain_steps)
            factor = _factor((TARGET_GAP - 1) * plain / max(seconds - plain, 1e-6))
            if num_read >= _FULL * self._beside or factor < 1:
                self._beside = min(max(self._beside * factor, MIN_BUDGET), self._largest)
        elif num_read and not is_decoding:
            factor = _factor(TARGET_STEP_S / max(seconds, 1e-6))
            if num_read >= _FULL * self._alone or factor < 1:
                self._alone = min(max(self._alone * factor, MIN_BUDGET), self._largest_alone)


def _factor(wanted: float) -> float:
    return min(max(wanted, 0.2), 1.5)
