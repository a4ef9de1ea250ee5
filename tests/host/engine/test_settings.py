from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest

from mlxbridge.errors import InvalidArgument
from mlxbridge.host.engine.choice.sampler import Sampler
from mlxbridge.host.engine.interface import GenerateRequest
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.settings import GREEDY, MIN_TEMPERATURE, Settings, eos_ids, settings_of


def of(loaded: LoadedModel, *, room: int = 100, **changes: Any) -> Settings:
    return settings_of(GenerateRequest(prompt="x", **changes), loaded, max_tokens=room)


def test_settings_of_a_plain_request_are_off(loaded: LoadedModel) -> None:
    assert replace(of(loaded, seed=0), end_ids=()) == GREEDY
    assert of(loaded, temperature=1e-30).temperature == 0
    assert of(loaded, temperature=1.0, seed=5).seed == 5
    assert of(loaded, temperature=1.0).seed != of(loaded, temperature=1.0).seed
    assert of(loaded, temperature=1.0, top_k=10**9).top_k == 0


def test_hottest_temperature_draws_no_token_that_cannot_be_drawn(loaded: LoadedModel) -> None:
    logits = mx.where(mx.arange(loaded.vocabulary_size) < 100, -math.inf, 0.0)[None]
    for seed in range(20):
        row = of(loaded, temperature=1e300, seed=seed)
        tokens: Any = Sampler([row], [0]).draw(logits).tolist()
        assert tokens[0] >= 100


def test_xtc_draws_at_any_temperature_and_spares_ends_and_newlines(loaded: LoadedModel) -> None:
    settings = of(loaded, temperature=1e-30, xtc_probability=0.5)
    assert settings.temperature == MIN_TEMPERATURE
    assert set(settings.xtc_spared) == {*loaded.tokenizer.encode("\n"), *loaded.eos_ids}


def test_end_ids_are_eos_and_stop_tokens(loaded: LoadedModel) -> None:
    (eos,) = loaded.eos_ids
    assert of(loaded, stop_token_ids=(7, 9, 7)).end_ids == tuple(sorted({7, 9, eos}))
    assert of(loaded, stop_token_ids=(7,), ignore_eos=True).end_ids == (7,)
    assert of(replace(loaded, eos_ids=frozenset({7, 384}))).end_ids == (7,)
    assert eos_ids(GenerateRequest(prompt="x"), loaded) == {eos}
    assert eos_ids(GenerateRequest(prompt="x", ignore_eos=True), loaded) == set()


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("logit_bias", {"logit_bias": {0: 1.0, 384: 1.0}}),
        ("stop_token_ids", {"stop_token_ids": (384,)}),
        ("min_tokens", {"min_tokens": 101}),
    ],
)
def test_settings_name_what_the_model_cannot_do(
    loaded: LoadedModel, field: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        of(loaded, **changes)
    assert caught.value.details == {"field": field}


def test_answer_that_may_not_end_needs_a_token_that_goes_on(loaded: LoadedModel) -> None:
    tiny = replace(loaded, vocabulary_size=3)
    with pytest.raises(InvalidArgument, match="min_tokens"):
        of(tiny, min_tokens=1, stop_token_ids=(0, 1, 2))
