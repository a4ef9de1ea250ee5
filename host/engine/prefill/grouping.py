"""Which prompts are read side by side; plain bookkeeping."""

from __future__ import annotations

from collections.abc import Sequence

MAX_FILLER_SHARE = 0.15


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
