"""What a list of numbers comes down to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median as _median


def median(values: Iterable[float]) -> float:
    """The middle value; NaN of nothing."""
    found = list(values)
    return _median(found) if found else math.nan


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of all values do not exceed; NaN of nothing."""
    if not values:
        return math.nan
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1, not {share}")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median_ratio(above: Sequence[float | None], below: Sequence[float | None]) -> float:
    """The median of the ratios of pairs measured side by side; pairs that lack one or have 0 below do not count."""
    pairs = zip(above, below, strict=True)
    return median(a / b for a, b in pairs if a is not None and b)


def show(value: float) -> str:
    """Three digits that matter, thousands grouped: 0.25, 12.3, 617,000."""
    if math.isnan(value):
        return "-"
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(0, digits)}f}"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns of equal width: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_pad(row, widths)).rstrip() for row in rows]


def _pad(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = row
    return [
        first.ljust(widths[0]),
        *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)),
    ]
