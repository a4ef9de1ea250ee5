"""What a results file says: medians and ratios from its rounds, and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.engine.cases import Found
from bench.stats import align, median, median_ratio, show

SIDES = ("ours", "mlx_lm")


def summarise(
    rounds: Mapping[str, Mapping[str, Sequence[Found]]], kinds: Mapping[str, tuple[str, int | None]]
) -> list[dict[str, Any]]:
    """One line a case and quantity: both sides' medians, and the median of the rounds' ratios.

    Args:
        rounds: by case and side.
        kinds: by case, what it is one of, and its batch size if it has one.
    """
    lines = []
    for case, sides in rounds.items():
        kind, num_rows = kinds[case]
        for quantity in sides["ours"][0].numbers:
            ours, theirs = ([found.numbers[quantity] for found in sides[side]] for side in SIDES)
            lines.append(
                {
                    "case": case,
                    "kind": kind,
                    "rows": num_rows,
                    "quantity": quantity,
                    "ours": median(ours),
                    "mlx_lm": median(theirs),
                    "ratio": median_ratio(ours, theirs),
                }
            )
    return lines


def usual_times(rounds: Sequence[Found], quantity: str) -> list[float]:
    """The token times of the round whose quantity is the median."""
    ordered = sorted(rounds, key=lambda found: found.numbers[quantity])
    return ordered[(len(ordered) - 1) // 2].token_times


def render(summary: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table, line by line."""
    rows = [["", "", *SIDES, "ratio"]]
    for line in summary:
        quantity = line["quantity"] if "tokens/s" in line["quantity"] else f"{line['quantity']} ms"
        rows.append([line["case"], quantity, *(show(line[key]) for key in (*SIDES, "ratio"))])
    return align(rows)
