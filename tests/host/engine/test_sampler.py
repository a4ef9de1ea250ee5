from __future__ import annotations

import math
from dataclasses import replace
from itertools import accumulate
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.choice.sampler import Sampler, seed_words, uniforms
from mlxbridge.host.engine.settings import GREEDY, MIN_TEMPERATURE, Settings
from tests.host.engine.reference import kept_by_hand

VOCABULARY = 100


def some_logits(seed: int, rows: int = 1, dtype: Any = mx.float32) -> mx.array:
    return (3 * mx.random.normal((rows, VOCABULARY), key=mx.random.key(seed))).astype(dtype)


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
    Settings(temperature=0.8, top_p=0.95, min_p=0.02, top_k=70, seed=7),
    Settings(temperature=1.0, top_k=64, seed=8),
    Settings(temperature=1.0, xtc_probability=0.5, xtc_threshold=0.02, seed=9),
    Settings(
        temperature=1.2, top_p=0.99, xtc_probability=1.0, xtc_threshold=0.05, xtc_spared=(3, 4), seed=10
    ),
    Settings(temperature=0.6, top_k=6, min_p=0.001, xtc_probability=0.3, xtc_threshold=0.1, seed=11),
]


def test_row_draws_the_same_alone_and_in_any_batch() -> None:
    logits = some_logits(1, len(MIXED))
    together = drawn(MIXED, logits)
    for index, row in enumerate(MIXED):
        assert drawn([row], logits[index : index + 1]) == [together[index]]
    backwards = drawn(MIXED[::-1], logits[::-1])
    assert backwards == together[::-1]
    for index, row in enumerate(MIXED):
        pair = mx.array([0, index])
        assert drawn([GREEDY, row], logits[pair]) == [together[0], together[index]]
    for size in (2, 3, 5):
        for start in range(0, len(MIXED), size):
            part = slice(start, start + size)
            assert drawn(MIXED[part], logits[part]) == together[part]


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
        (Settings(temperature=1.0, xtc_probability=1.0, xtc_threshold=0.15), [0, 0, 2 / 3, 1 / 3]),
        # With 0.4 of xtc: of 0.4, 0.3, 0.2 the first two are taken.
        (
            Settings(temperature=1.0, xtc_probability=0.4, xtc_threshold=0.15),
            [0.6 * 0.4, 0.6 * 0.3, 0.6 * 0.2 + 0.4 * 2 / 3, 0.6 * 0.1 + 0.4 / 3],
        ),
        (
            Settings(temperature=0.5, top_k=1, xtc_probability=0.4, xtc_threshold=0.15, xtc_spared=(1,)),
            [0.6, 0.4, 0, 0],
        ),
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


def test_two_numbers_of_a_position_are_even_together() -> None:
    words = mx.array([seed_words(seed) for seed in range(100) for _ in range(100)], dtype=mx.uint32)
    positions = mx.array([*range(100)] * 100, dtype=mx.uint32)
    first: Any = uniforms(words, positions)[:, 0].tolist()
    second: Any = uniforms(words, positions, number=1)[:, 0].tolist()
    pairs = [(int(a * 4), int(b * 4)) for a, b in zip(first, second, strict=True)]
    assert all(520 < pairs.count((i, j)) < 730 for i in range(4) for j in range(4))


def test_draws_are_places_in_the_cumulated_weights_of_the_kept() -> None:
    """Every way to filter, many seeds at once: token for token what plain Python picks."""
    rows = [replace(row, seed=seed) for row in MIXED if row.temperature for seed in range(150)]
    logits = some_logits(2, len(rows))
    values: Any = logits.tolist()
    seeds = mx.array([seed_words(row.seed) for row in rows], dtype=mx.uint32)
    at = mx.array([7] * len(rows), dtype=mx.uint32)
    numbers: Any = uniforms(seeds, at)[:, 0].tolist()
    coins: Any = uniforms(seeds, at, number=1)[:, 0].tolist()
    got = [column[0] for column in drawn(rows, logits, 1, start=7)]
    differing = 0
    for row, line, number, coin, token in zip(rows, values, numbers, coins, got, strict=True):
        may = kept_by_hand(line, row, coin)
        assert token in may
        weights = [math.exp((line[i] - max(line)) / row.temperature) for i in sorted(may)]
        cumulated = list(accumulate(weights))
        expected = next(
            i for i, so_far in zip(sorted(may), cumulated, strict=True) if so_far > number * cumulated[-1]
        )
        differing += token != expected
    assert differing <= 1  # a number may be so near a border that float32 falls on the other side


def test_narrow_top_p_is_of_the_mass_of_all_tokens() -> None:
    # The likeliest has half of all the mass, and seven tenths of that of the 64 likeliest.
    logits = mx.repeat(mx.log(mx.array([[0.5, *[0.5 / 149] * 149]])), 300, axis=0)
    rows = [Settings(temperature=1e4, top_k=4, top_p=0.6, seed=seed) for seed in range(300)]
    assert {column[0] for column in drawn(rows, logits, 1)} == {0, 1, 2, 3}


def test_next_to_no_temperature_xtc_draws_the_likeliest_of_what_it_leaves() -> None:
    logits = mx.array([[5.0, -math.inf, 9.0, 3.0, 9.5, 6.0, 5.5]])
    for temperature in (MIN_TEMPERATURE, 0.01, 0.03):
        row = Settings(temperature=temperature, xtc_probability=1.0, xtc_threshold=0.015, seed=3)
        assert set(drawn([row], logits)[0]) == {5}
        assert set(drawn([replace(row, xtc_spared=(2,))], logits)[0]) == {2}
        assert set(drawn([replace(row, top_k=1)], logits)[0]) == {5}


def test_what_is_impossible_is_never_drawn() -> None:
    logits = mx.full((200, VOCABULARY), -math.inf)
    logits[:, 5::10] = mx.array(0.0)
    rows = [replace(MIXED[1 + seed % (len(MIXED) - 1)], seed=seed) for seed in range(200)]
    assert {token % 10 for column in drawn(rows, logits, 5) for token in column} == {5}
