from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm import sample_utils

from mlxbridge.host.engine.filters import NARROW_TOP_K, Filters, Way, way_of
from mlxbridge.host.engine.settings import GREEDY, Settings
from tests.host.engine.reference import kept_by_hand

VOCABULARY = 150


def some_logits(seed: int, rows: int = 1) -> mx.array:
    return 3 * mx.random.normal((rows, VOCABULARY), key=mx.random.key(seed))


def kept(logits: mx.array, rows: list[Settings], way: Way, coins: list[float] | None = None) -> mx.array:
    best = mx.max(logits, axis=-1, keepdims=True)
    found = Filters(rows, way).kept(logits, best, mx.array(coins or [0.0] * len(rows))[:, None])
    return mx.ones(logits.shape, dtype=mx.bool_) if found is None else found


def ids(kept_row: mx.array) -> set[int]:
    values: Any = kept_row.tolist()
    return {i for i, keep in enumerate(values) if keep}


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
    if row.xtc_probability:
        expected = sample_utils.apply_xtc(expected, 1.0, row.xtc_threshold, list(row.xtc_spared))
    if row.top_k > 0:
        expected = sample_utils.apply_top_k(expected, row.top_k)
    return expected > -math.inf


WIDE = [
    Settings(temperature=1.0, top_p=top_p, min_p=min_p, top_k=top_k)
    for top_p, min_p, top_k in product([1.0, 0.9, 0.3, 1e-6], [0.0, 0.05, 1.0], [0, 65, 149])
]
NARROW = [
    Settings(temperature=1.0, top_p=top_p, min_p=min_p, top_k=top_k)
    for top_p, min_p, top_k in product([1.0, 0.99, 0.9, 0.3, 1e-6], [0.0, 0.05, 1.0], [1, 7, 63, 64])
]
XTC = [
    Settings(
        temperature=1.0,
        top_p=top_p,
        min_p=min_p,
        top_k=top_k,
        xtc_probability=1.0,
        xtc_threshold=threshold,
        xtc_spared=spared,
    )
    for top_p, min_p, top_k, threshold, spared in product(
        [1.0, 0.9], [0.0, 0.02], [0, 2, 70], [0.0, 0.01, 0.1, 0.5], [(), (3, 50, 51)]
    )
]
PLAIN = [GREEDY, Settings(temperature=1.0), Settings(temperature=1.0, min_p=0.05)]
WAYS = {Way.SORTED: WIDE, Way.NARROW: NARROW, Way.XTC: XTC}


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("seed", range(4))
def test_filters_keep_what_mlx_lm_keeps(way: Way, seed: int) -> None:
    rows = WAYS[way]
    logits = some_logits(seed, len(rows))
    got = kept(logits, rows, way)
    for index, row in enumerate(rows):
        assert ids(got[index]) == ids(kept_by_mlx_lm(logits[index : index + 1], row)[0]), row


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("step", [0.5, 2.0, 100.0])
def test_filters_treat_equals_as_plain_python_does(way: Way, step: float) -> None:
    rows = WAYS[way]
    logits = mx.round(some_logits(9, len(rows)) / step) * step
    got = kept(logits, rows, way)
    values: Any = logits.tolist()
    for index, row in enumerate(rows):
        assert ids(got[index]) == kept_by_hand(values[index], row), row


@pytest.mark.parametrize("way", Way)
def test_row_that_may_go_any_way_loses_nothing_on_it(way: Way) -> None:
    rows = [*WAYS[way], *PLAIN]
    logits = some_logits(3, len(rows))
    got = kept(logits, rows, way)
    for index, row in enumerate(rows):
        expected = kept_by_mlx_lm(logits[index : index + 1], row)[0]
        assert row == GREEDY or ids(got[index]) == ids(expected), row


def test_way_is_a_rows_own() -> None:
    for way, rows in WAYS.items():
        assert {way_of(row) for row in rows if row.top_p < 1 or row.top_k or row.xtc_probability} == {way}
    assert [way_of(row) for row in PLAIN] == [None] * 3
    assert way_of(replace(NARROW[0], temperature=0.0)) is None
    assert way_of(Settings(temperature=1.0, top_k=NARROW_TOP_K + 1)) is Way.SORTED


def test_narrow_top_p_is_of_the_whole_mass() -> None:
    # The likeliest has half of all the mass, and seven tenths of that of the 64 likeliest.
    logits = mx.log(mx.array([[0.5, *[0.5 / 149] * 149]]))
    rows = [Settings(temperature=1.0, top_k=4, top_p=0.6)]
    assert ids(kept(logits, rows, Way.NARROW)[0]) == {0, 1, 2, 3}


def test_narrow_way_takes_a_vocabulary_that_is_smaller() -> None:
    logits = mx.array([[0.0, 2.0, 1.0, 2.0, 1.0, 1.0, -math.inf]])
    for top_k, places in ((1, {1}), (2, {1, 3}), (3, {1, 2, 3}), (4, {1, 2, 3, 4}), (6, {0, 1, 2, 3, 4, 5})):
        assert ids(kept(logits, [Settings(temperature=1.0, top_k=top_k)], Way.NARROW)[0]) == places


def test_coin_decides_whether_xtc_takes_place() -> None:
    logits = mx.repeat(mx.log(mx.array([[0.4, 0.3, 0.2, 0.1]])), 4, axis=0)
    rows = [
        Settings(temperature=1.0, xtc_probability=probability, xtc_threshold=0.15)
        for probability in (0.5, 0.5, 1.0, 0.0)
    ]
    got = kept(logits, rows, Way.XTC, [0.49, 0.51, 0.9999999, 0.0])
    assert [ids(row) for row in got] == [{2, 3}, {0, 1, 2, 3}, {2, 3}, {0, 1, 2, 3}]
