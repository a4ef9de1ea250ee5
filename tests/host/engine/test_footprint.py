from __future__ import annotations

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.models.cache import make_prompt_cache

from mlxbridge.host.engine.caches.cache_plan import CachePlan
from mlxbridge.host.engine.caches.caches import nbytes
from mlxbridge.host.engine.caches.footprint import Footprint, measure_footprint
from mlxbridge.host.engine.loader import LoadedModel
from tests.host.engine.architectures import ARCHITECTURES, make_model


def test_growing_caches_take_the_same_for_each_token(loaded: LoadedModel) -> None:
    assert measure_footprint(CachePlan(loaded.model)) == Footprint(token_bytes=2 * 2 * 2 * 16 * 4)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize("length", [1, 255, 256, 700])
def test_row_bytes_are_what_the_caches_of_a_row_take(name: str, length: int) -> None:
    model = make_model(name)
    caches = make_prompt_cache(model)
    tokens = mx.ones((1, length), dtype=mx.int32)
    if length > 1:
        model(tokens[:, :-1], cache=caches)
    model(tokens[:, -1:], cache=caches)
    taken = nbytes(caches)
    # A window's buffer is longer by what was read at once, until the next token cuts it.
    assert taken <= measure_footprint(CachePlan(model)).row_bytes(length)
    assert taken >= 0.9 * measure_footprint(CachePlan(model)).row_bytes(length - 1)


def test_windows_and_states_stop_growing() -> None:
    footprint = Footprint(token_bytes=0, windows=((512, 10),), fixed_bytes=7)
    assert footprint.row_bytes(100) == 7 + 2560
    assert footprint.row_bytes(10_000) == footprint.row_bytes(1_000_000) == footprint.most_fixed_bytes == 5127


@given(
    token_bytes=st.integers(0, 5000),
    window=st.tuples(st.integers(1, 3000), st.integers(1, 100)),
    fixed=st.integers(0, 10**6),
    budget=st.integers(0, 10**9),
)
def test_most_tokens_is_the_last_length_that_fits(
    token_bytes: int, window: tuple[int, int], fixed: int, budget: int
) -> None:
    footprint = Footprint(token_bytes=token_bytes, windows=(window,), fixed_bytes=fixed)
    most = footprint.most_tokens(budget)
    if footprint.row_bytes(0) <= budget:
        assert footprint.row_bytes(most) <= budget
    else:
        assert most == 0
    if token_bytes:
        assert footprint.row_bytes(most + 1) > budget
