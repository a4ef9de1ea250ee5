"""What a results file says: medians and ratios from its rounds, and the table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.engine.cases import Found
from bench.stats import align, median, median_ratio, percentile, show

_OURS = "ours"
# What a line has beside the sides.
_FACTS = ("case", "kind", "rows", "quantity", "ratio")


def summarise(
    rounds: Mapping[str, Mapping[str, Sequence[Found]]], kinds: Mapping[str, tuple[str, int | None]]
) -> list[dict[str, Any]]:
    """One line a case and quantity: both sides' medians, and the median of the rounds' ratios.

    A 99th percentile is of the gaps of all rounds together: one round has too few. Beside it stands the one of how many
    times its round's usual gap each is, since a machine may be quick in one round and slow in the next.

    Args:
        rounds: by case and side.
        kinds: by case, what it is one of, and its batch size if it has one.
    """
    lines = []
    for case, sides in rounds.items():
        kind, num_rows = kinds[case]
        found = {side: _together(sides[side]) for side in sides}
        (other,) = found.keys() - {_OURS}
        for quantity in found[_OURS]:
            ours, theirs = found[_OURS][quantity], found[other][quantity]
            lines.append(
                {
                    "case": case,
                    "kind": kind,
                    "rows": num_rows,
                    "quantity": quantity,
                    _OURS: median(ours),
                    other: median(theirs),
                    "ratio": median_ratio(ours, theirs),
                }
            )
    return lines


def _together(rounds: Sequence[Found]) -> dict[str, list[float]]:
    """What was found of each quantity: a value a round, or one of all rounds."""
    found = {quantity: [each.numbers[quantity] for each in rounds] for quantity in rounds[0].numbers}
    if gaps := [gap for each in rounds for gap in each.gaps]:
        found["gap_p99"] = [percentile(gaps, 0.99)]
        times = [gap / each.numbers["gap_before"] for each in rounds for gap in each.gaps]
        found["gap_p99 / gap_before"] = [percentile(times, 0.99)]
    return found


def usual_times(rounds: Sequence[Found], quantity: str) -> list[float]:
    """The token times of the round whose quantity is the median."""
    ordered = sorted(rounds, key=lambda found: found.numbers[quantity])
    return ordered[(len(ordered) - 1) // 2].token_times


def render(summary: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table, line by line: a column a side that any case has."""
    sides = [side for side in dict.fromkeys(key for line in summary for key in line) if side not in _FACTS]
    rows = [["", "", *sides, "ratio"]]
    for line in summary:
        is_time = not any(unit in line["quantity"] for unit in ("tokens/s", " / "))
        quantity = f"{line['quantity']} ms" if is_time else line["quantity"]
        rows.append([line["case"], quantity, *(show(line.get(key, math.nan)) for key in (*sides, "ratio"))])
    return align(rows)
