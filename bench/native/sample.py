"""One answer, timed as the caller sees it; the same clock for both sides."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any

Sample = dict[str, Any]


def take(tokens: Iterator[list[int]]) -> Sample:
    """Time an iterator of token ids that begins to work when it is first asked."""
    start = perf_counter()
    ids = list(next(tokens))
    first, num_first = perf_counter(), len(ids)
    last = first
    for more in tokens:
        if more:
            ids += more
            last = perf_counter()
    rate = (len(ids) - num_first) / (last - first) if last > first else 0.0
    return {"ttft_ms": (first - start) * 1000, "tokens_per_s": rate, "token_ids": ids}
