"""Models that would answer otherwise are found out before they answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest

from mlxbridge.host.engine.caches.cache_plan import CachePlan
from mlxbridge.host.engine.caches.caches import can_be_padded
from mlxbridge.host.engine.caches.quantized_cache import Quantization
from mlxbridge.host.engine.exactness import is_exact_over_drafts
from tests.host.engine.architectures import ARCHITECTURES, make_model

VOCABULARY = 384


@pytest.mark.parametrize("is_batched", [True, False])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_models_whose_caches_can_be_cut_are_exact_over_drafts(name: str, is_batched: bool) -> None:
    plan = CachePlan(make_model(name))
    if can_be_padded(plan.make()):
        assert is_exact_over_drafts(plan, VOCABULARY, is_batched=is_batched)
    else:
        assert name not in ("llama", "qwen3")


@pytest.mark.parametrize("is_batched", [True, False])
def test_keys_in_few_bits_are_exact_over_drafts(is_batched: bool) -> None:
    model = make_model("llama", hidden_size=128, head_dim=32)
    plan = CachePlan(model, Quantization(bits=8, group_size=32))
    assert is_exact_over_drafts(plan, VOCABULARY, is_batched=is_batched)


def wrong_in_company(logits: mx.array) -> mx.array:
    return logits if logits.shape[1] == 1 else logits[:, ::-1]


def wrong_in_a_row(logits: mx.array) -> mx.array:
    return logits if logits.shape[0] == 1 else logits[::-1]


def raises_for_few(logits: mx.array) -> mx.array:
    if logits.shape[1] == 2:
        raise ValueError("two at a time")
    return logits


@pytest.mark.parametrize("spoil", [wrong_in_company, wrong_in_a_row, raises_for_few])
def test_models_that_answer_otherwise_over_drafts_are_found_out(
    spoil: Callable[[mx.array], mx.array],
) -> None:
    model = make_model("llama")

    class Spoilt(type(model)):  # type: ignore[misc]
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            return spoil(super().__call__(*arguments, **options))

    model.__class__ = Spoilt
    assert not is_exact_over_drafts(CachePlan(model), VOCABULARY, is_batched=True)


def test_a_model_that_cannot_forget_is_found_out() -> None:
    assert not is_exact_over_drafts(CachePlan(make_model("lfm2")), VOCABULARY, is_batched=True)
