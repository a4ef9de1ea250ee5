from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm import sample_utils

from mlxbridge.host.engine import sampler
from mlxbridge.host.engine.sampler import (
    Sampler,
    kept_tokens,
    seed_words,
    uniforms,
)
from mlxbridge.host.engine.settings import GREEDY, Settings

VOCABULARY = 50


def some_logits(seed: int, rows: int = 1, dtype: Any = mx.float32) -> mx.array:
    return (3 * mx.random.normal((rows, VOCABULARY), key=mx.random.key(seed))).astype(dtype)


def kept(logits: mx.array, rows: list[Settings]) -> mx.array:
    _, _, top_p, log_min_p, top_k, _ = sampler._columns(rows)
    best = mx.max(logits, axis=-1, keepdims=True)
    found = kept_tokens(logits, best, top_p=top_p, log_min_p=log_min_p, top_k=top_k)
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def uncompiled() -> Iterator[None]:
    """mlx_lm compiles its filters anew for every value of a parameter."""
    disable: Any = mx.disable_compile
    enable: Any = mx.enable_compile
    disable()
    yield
    enable()


def kept_by_mlx_lm(logits: mx.array, row: Settings) -> mx.array:
    expected = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    if row.top_p < 1:
        expected = sample_utils.apply_top_p(expected, row.top_p)
    if row.min_p > 0:
        expected = sample_utils.apply_min_p(expected, row.min_p)
    if row.top_k > 0:
        expected = sample_utils.apply_top_k(expected, row.top_k)
    return expected > -math.inf


MANY = [
    Settings(temperature=1.0, top_p=top_p, min_p=min_p, top_k=top_k)
    for top_p, min_p, top_k in product([1.0, 0.9, 0.3, 1e-6], [0.0, 0.05, 1.0], [0, 1, 7, 49])
]


@pytest.mark.parametrize("seed", range(5))
def test_filters_keep_what_mlx_lm_keeps(seed: int) -> None:
    logits = some_logits(seed, len(MANY))
    got = kept(logits, MANY)
    for index, row in enumerate(MANY):
        assert mx.array_equal(got[index], kept_by_mlx_lm(logits[index : index + 1], row)[0]), row


def test_top_k_keeps_so_many_of_equals_and_the_first() -> None:
    logits = mx.array([[0.0, 2.0, 1.0, 2.0, 1.0, 1.0, -math.inf]])
    for top_k, places in ((1, [1]), (2, [1, 3]), (3, [1, 2, 3]), (4, [1, 2, 3, 4])):
        found = kept(logits, [Settings(temperature=1.0, top_k=top_k)]).tolist()
        assert [i for i, keep in enumerate(found[0]) if keep] == places  # type: ignore[index,arg-type]


def test_top_p_keeps_all_of_equals() -> None:
    logits = mx.array([[2.0, 2.0, 2.0, -9.0]])
    assert kept(logits, [Settings(temperature=1.0, top_p=0.1)]).tolist() == [[True, True, True, False]]


def drawn(rows: list[Settings], logits: mx.array, steps: int = 30, start: int = 0) -> list[list[int]]:
    """By row: the tokens of so many draws from the same logits."""
    one = Sampler(rows, [start] * len(rows))
    columns: Any = mx.stack([one.draw(logits) for _ in range(steps)], axis=1).tolist()
    return list(columns)


MIXED = [
    GREEDY,
    Settings(temperature=1.0, seed=1),
    Settings(temperature=0.7, seed=2),
    Settings(temperature=1.5, top_p=0.8, seed=3),
    Settings(temperature=0.9, min_p=0.1, seed=4),
    Settings(temperature=2.0, top_k=5, seed=5),
    Settings(temperature=0.8, top_p=0.95, min_p=0.02, top_k=20, seed=6),
]


def test_row_draws_the_same_alone_and_in_any_batch() -> None:
    logits = some_logits(1, len(MIXED))
    together = drawn(MIXED, logits)
    for index, row in enumerate(MIXED):
        assert drawn([row], logits[index : index + 1]) == [together[index]]
    backwards = drawn(MIXED[::-1], logits[::-1])
    assert backwards == together[::-1]


def test_draws_go_on_where_another_sampler_stopped() -> None:
    logits = some_logits(1, len(MIXED))
    whole = drawn(MIXED, logits)
    first, second = drawn(MIXED, logits, 12), drawn(MIXED, logits, 18, start=12)
    assert [a + b for a, b in zip(first, second, strict=True)] == whole


def test_draws_stay_among_the_kept_and_follow_the_probabilities() -> None:
    logits = mx.log(mx.array([[0.4, 0.3, 0.2, 0.1]]))
    for row, shares in (
        (Settings(temperature=1.0, seed=1), [0.4, 0.3, 0.2, 0.1]),
        (Settings(temperature=1.0, top_k=2, seed=2), [4 / 7, 3 / 7, 0, 0]),
        (Settings(temperature=0.5, top_p=0.6, seed=3), [16 / 25, 9 / 25, 0, 0]),
        (Settings(temperature=1.0, min_p=0.5, seed=4), [4 / 9, 3 / 9, 2 / 9, 0]),
    ):
        rows = [replace(row, seed=seed) for seed in range(1500)]
        tokens = [token for column in drawn(rows, mx.repeat(logits, 1500, axis=0), 2) for token in column]
        for token, share in enumerate(shares):
            assert abs(tokens.count(token) / 3000 - share) < 0.04
            assert share or token not in tokens


def test_draws_take_low_precision_and_extreme_parameters() -> None:
    logits = some_logits(3, dtype=mx.bfloat16)
    best = mx.argmax(logits, axis=-1).item()
    changes: list[dict[str, Any]] = [
        {"top_k": 1},
        {"top_p": 1e-9},
        {"top_p": 1e-300},
        {"min_p": 1.0},
        {"temperature": 2e-5},
    ]
    for change in changes:
        row = Settings(**{"temperature": 1.5, "seed": -1, **change})
        assert set(drawn([row], logits)[0]) == {best}
    assert len(set(drawn([Settings(temperature=1e30, seed=1)], logits)[0])) > 10


def test_row_without_numbers_does_not_touch_the_others() -> None:
    logits = some_logits(1, len(MIXED))
    expected = drawn(MIXED, logits)
    logits[3] = math.nan
    got = drawn(MIXED, logits)
    assert got[:3] + got[4:] == expected[:3] + expected[4:]
    assert all(0 <= token < VOCABULARY for token in got[3])


def test_global_random_state_is_neither_read_nor_changed() -> None:
    def state() -> list[Any]:
        arrays: Any = mx.random.state
        return [array.tolist() for array in arrays]

    logits = some_logits(1, len(MIXED))
    first = drawn(MIXED, logits)
    mx.random.seed(99)
    before = state()
    assert drawn(MIXED, logits) == first
    assert state() == before


def test_uniforms_are_even_and_differ_by_seed_and_position() -> None:
    words = mx.array([seed_words(seed) for seed in range(-50, 50) for _ in range(100)], dtype=mx.uint32)
    positions = mx.array([*range(100)] * 100, dtype=mx.uint32)
    numbers: Any = uniforms(words, positions)[:, 0].tolist()
    assert all(0 <= number < 1 for number in numbers)
    assert len(set(numbers)) > 9_980  # of 2**24 possible ones: two meet now and then
    for tenth in range(10):
        assert 850 < sum(int(number * 10) == tenth for number in numbers) < 1150
