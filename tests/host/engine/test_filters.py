from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm import sample_utils

from mlxbridge.host.engine.choice.filters import NARROW_TOP_K, Filters, Way, way_of
from mlxbridge.host.engine.choice.likeliest import likeliest
from mlxbridge.host.engine.settings import Settings
from tests.host.engine.reference import kept_by_hand

VOCABULARY = 150


def some_logits(seed: int, rows: int = 1) -> mx.array:
    return 3 * mx.random.normal((rows, VOCABULARY), key=mx.random.key(seed))


def kept(logits: mx.array, rows: list[Settings], way: Way, coins: list[float] | None = None) -> mx.array:
    """As the sampler does it: on a narrow way, only the likeliest are looked at."""
    best = mx.max(logits, axis=-1, keepdims=True)
    filters = Filters(rows, way)
    if way is Way.NARROW:
        ids = mx.sort(likeliest(logits, min(NARROW_TOP_K, logits.shape[1])), axis=-1)
        mass = mx.exp(logits - best).sum(axis=-1, keepdims=True)
        found = filters.kept(mx.take_along_axis(logits, ids, axis=-1), best, mass=mass)
        none = mx.zeros(logits.shape, dtype=mx.bool_)
        return none if found is None else mx.put_along_axis(none, ids, found, axis=-1)
    found = filters.kept(logits, best, coins=mx.array(coins or [0.0] * len(rows))[:, None])
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
WAYS = {Way.WIDE: WIDE, Way.NARROW: NARROW, Way.XTC: XTC}


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


def test_way_is_a_rows_own() -> None:
    for way, rows in WAYS.items():
        assert {way_of(row) for row in rows} == {way}
    assert way_of(Settings(temperature=1.0, top_k=NARROW_TOP_K + 1)) is Way.WIDE
    assert way_of(replace(NARROW[0], temperature=0.0)) is None


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
