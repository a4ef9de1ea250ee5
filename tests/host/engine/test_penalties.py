from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.sample_utils import make_logits_processors

from mlxbridge.host.engine.choice.penalties import Bias, LateEnd, Penalties
from mlxbridge.host.engine.settings import GREEDY, Settings
from tests.host.engine.reference import PENALTY_FIELDS

VOCABULARY = 12
ROWS = [
    GREEDY,
    Settings(repetition_penalty=1.7, repetition_context_size=3),
    Settings(presence_penalty=0.6, presence_context_size=1),
    GREEDY,
    Settings(frequency_penalty=0.4, frequency_context_size=8),
    Settings(logit_bias={3: -2.5, 7: 4.0}),
    Settings(
        logit_bias={0: 1.0},
        repetition_penalty=0.8,
        repetition_context_size=5,
        presence_penalty=-0.5,
        presence_context_size=40,
        frequency_penalty=-0.25,
        frequency_context_size=2,
    ),
]
HISTORIES = [[(7 * row + i * i) % VOCABULARY for i in range(2 + 3 * row)] for row in range(len(ROWS))]


def by_mlx_lm(row: Settings, history: list[int], logits: mx.array) -> mx.array:
    processors = make_logits_processors(
        logit_bias=dict(row.logit_bias), **{name: getattr(row, name) for name in PENALTY_FIELDS}
    )
    logits = mx.array(logits)
    for processor in processors:
        logits = processor(mx.array(history), logits)
    return logits


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_bias_and_penalties_are_mlx_lms_while_rows_draw(dtype: Any) -> None:
    histories = [list(history) for history in HISTORIES]

    def recent(place: int, size: int) -> list[int]:
        return histories[place][:-1][-size:] if size else []

    bias, penalties = Bias(ROWS), Penalties(ROWS, recent)
    for step in range(12):
        logits = (3 * mx.random.normal((len(ROWS), VOCABULARY), key=mx.random.key(step))).astype(dtype)
        rows = [by_mlx_lm(row, histories[i], logits[i : i + 1]) for i, row in enumerate(ROWS)]
        last = mx.array([history[-1] for history in histories], dtype=mx.uint32)
        got = penalties.apply(bias.apply(logits), last)
        assert got.dtype == dtype
        assert mx.array_equal(got, mx.concatenate(rows))
        for i, history in enumerate(histories):
            history.append((step * 5 + i * 3) % 4)


def test_only_what_a_row_says_uses_them() -> None:
    assert [Bias.is_used(row) for row in ROWS] == [False] * 5 + [True] * 2
    assert [Penalties.is_used(row) for row in ROWS] == [False, True, True, False, True, False, True]
    assert not Penalties.is_used(Settings(repetition_context_size=100))
    late = Settings(min_tokens=2, end_ids=(1,))
    assert [LateEnd.is_used(late, position) for position in range(4)] == [True, True, False, False]
    assert not LateEnd.is_used(replace(late, end_ids=()), 0)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_late_end_holds_each_rows_ids_until_its_time(dtype: Any) -> None:
    rows = [Settings(min_tokens=3, end_ids=(0, 4)), GREEDY, Settings(min_tokens=5, end_ids=(2,))]
    late_end = LateEnd(rows, [1, 0, 2])
    for ids in ({(0, 0), (0, 4), (2, 2)}, {(0, 0), (0, 4), (2, 2)}, {(2, 2)}):
        assert not late_end.is_over
        logits = late_end.apply(mx.zeros((3, 6), dtype=dtype))
        assert logits.dtype == dtype
        values: Any = logits.tolist()
        assert {(i, j) for i in range(3) for j in range(6) if values[i][j] == -math.inf} == ids
    assert late_end.is_over
