from __future__ import annotations

import pytest

from mlxbridge.host.engine.rows import Job


@pytest.mark.parametrize("size", [0, 1, 2, 3, 9])
def test_recent_tokens_end_before_the_one_that_the_next_draw_follows(size: int) -> None:
    def last(tokens: list[int]) -> list[int]:
        return tokens[max(0, len(tokens) - size) :]

    assert Job([1, 2, 3], max_tokens=9).recent(size) == last([1, 2])
    assert Job([1, 2, 3], max_tokens=9, num_drawn=1).recent(size) == last([1, 2, 3])
    assert Job([1, 2, 3], max_tokens=9, num_drawn=3, answer=[4, 5]).recent(size) == last([1, 2, 3, 4, 5])
    assert Job([1, 2, 3], max_tokens=9, num_drawn=3, answer=[4, 5, 6]).recent(size) == last([1, 2, 3, 4, 5])
