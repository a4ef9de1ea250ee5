"""Caches that a model cannot have are refused when it is loaded, by the option's name and with the reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from mlx_lm.models import llama

from mlxbridge.errors import ModelLoadFailed, UsageError
from mlxbridge.host.engine.caches.cache_choice import choose_caches
from mlxbridge.host.engine.caches.cache_plan import Window
from mlxbridge.host.engine.caches.caches import KVCache, RotatingKVCache
from mlxbridge.host.engine.caches.quantized_cache import Quantization, QuantizedCache
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.engine.loader import LoadedModel
from tests.host.engine.architectures import LARGE_HEADS, make_model

GPT2: dict[str, Any] = {
    "n_ctx": 512,
    "n_embd": 128,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 512,
    "layer_norm_epsilon": 1e-5,
}
GEMMA2: dict[str, Any] = {
    **LARGE_HEADS,
    "num_key_value_heads": 4,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "query_pre_attn_scalar": 32,
}


def named(loaded: LoadedModel, name: str, **changes: Any) -> LoadedModel:
    return replace(loaded, name=name, model=make_model(name, **changes))


def test_a_model_keeps_its_own_caches_unless_asked(loaded: LoadedModel) -> None:
    plan = choose_caches(loaded, EngineLimits())
    assert plan.quantization is None and plan.window is None
    assert {type(item) for item in plan.make()} == {KVCache}


def test_groups_are_as_large_as_the_heads_allow(loaded: LoadedModel) -> None:
    for size, group in ((32, 32), (64, 64), (96, 32), (128, 64)):
        model = named(loaded, "llama", head_dim=size)
        assert choose_caches(model, EngineLimits(kv_bits=4)).quantization == Quantization(4, group)
    wide = choose_caches(model, EngineLimits(kv_bits=8, kv_group_size=128))
    assert wide.quantization == Quantization(8, 128)


def test_only_what_grows_is_quantized(loaded: LoadedModel) -> None:
    plan = choose_caches(named(loaded, "gemma3_text", **LARGE_HEADS), EngineLimits(kv_bits=8))
    assert [type(item) for item in plan.make()] == [RotatingKVCache, QuantizedCache]


@pytest.mark.parametrize(
    ("name", "changes", "limits", "reason"),
    [
        ("llama", {}, {"kv_bits": 8}, "they have 8 numbers, which groups of 64 or 32 do not divide evenly"),
        ("llama", LARGE_HEADS, {"kv_bits": 8, "kv_group_size": 64}, "32 numbers, which groups of 64 do not"),
        ("mamba", {}, {"kv_bits": 8}, "it has none over all tokens, but ArraysCache"),
        ("gemma2", GEMMA2, {"kv_bits": 8}, "its attention does not take them so"),
        ("gemma3_text", {}, {"kv_window": 64}, "in RotatingKVCache and KVCache"),
        ("lfm2", {}, {"kv_window": 64}, "in ArraysCache and KVCache"),
        ("gpt2", GPT2, {"kv_window": 64}, "absolute position"),
        ("llama", {}, {"kv_window": 513}, "made for a context of 512 tokens"),
    ],
)
def test_what_a_model_cannot_have_is_refused_by_name(
    loaded: LoadedModel, name: str, changes: dict[str, Any], limits: dict[str, Any], reason: str
) -> None:
    option = "--kv-bits" if "kv_bits" in limits else "--kv-window"
    with pytest.raises(ModelLoadFailed, match=f"^{option}: {name} cannot have .*: .*{reason}"):
        choose_caches(named(loaded, name, **changes), EngineLimits(**limits))


def test_a_model_that_makes_its_own_mask_gets_no_window(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = named(loaded, "llama")
    assert choose_caches(model, EngineLimits(kv_window=64)).window == Window(64, 4)
    monkeypatch.setattr(
        llama, "create_attention_mask", lambda h, *_, **__: "causal" if h.shape[1] > 1 else None
    )
    with pytest.raises(ModelLoadFailed, match="^--kv-window: llama cannot have .* read in pieces"):
        choose_caches(model, EngineLimits(kv_window=64))


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"kv_bits": 6}, "kv_bits"),
        ({"kv_bits": True}, "kv_bits"),
        ({"kv_bits": 8, "kv_group_size": 48}, "kv_group_size"),
        ({"kv_group_size": 64}, "kv_group_size"),
        ({"kv_sinks": 4}, "kv_sinks"),
        ({"kv_window": 64, "kv_sinks": -1}, "kv_sinks"),
        ({"kv_window": 0}, "kv_window"),
        ({"kv_window": 7}, "kv_window"),
        ({"kv_window": 64, "kv_sinks": 33}, "kv_window"),
        ({"kv_window": 64, "kv_bits": 8}, "kv_bits"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(limits: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError, match=f"^{field} ") as caught:
        EngineLimits(**limits)
    assert caught.value.details["field"] == field
