"""Every family against transformers' own implementation (``make_references``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.embeddings.encoder import Encoder
from mlxbridge.host.embeddings.loader import load_encoder
from mlxbridge.host.embeddings.request import EmbedRequest
from tests.host.embeddings.checkpoints import save_model, save_weights, seeded

FAMILIES = ["bert", "xlm-roberta", "modernbert", "qwen3", "gemma3", "gemma3-causal"]
POOLINGS = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}


def check(encoder: Encoder, reference: dict[str, Any], pooling: str = "mean") -> None:
    """Compare each input alone, and all in one batch."""
    expected = np.array([answer[pooling] for answer in reference["vectors"]])
    together = encoder.encode(EmbedRequest(inputs=reference["inputs"])).vectors
    alone = [encoder.encode(EmbedRequest(inputs=[ids])).vectors[0] for ids in reference["inputs"]]
    np.testing.assert_allclose(together, expected, atol=2e-4)
    np.testing.assert_allclose(alone, expected, atol=2e-4)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", FAMILIES)
def test_vectors_equal_transformers(
    make: Callable[..., Encoder], models: dict[str, Any], name: str, pooling: str
) -> None:
    check(make(name, pooling=POOLINGS[pooling]), models[name], pooling)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("bert", "bert."), ("xlm-roberta", "roberta."), ("modernbert", "model."), ("qwen3", "model.")],
)
def test_weights_of_a_model_with_a_head_are_found(
    models: dict[str, Any], tmp_path: Path, name: str, prefix: str
) -> None:
    folder = save_model(tmp_path, models[name])
    weights = {prefix + key: seeded(key, shape) for key, shape in models[name]["shapes"].items()}
    save_weights(folder / "model.safetensors", {**weights, "lm_head.weight": np.zeros((64, 32), np.float32)})
    check(load_encoder(folder, "mine"), models[name])


def test_modernbert_of_transformers_4_is_the_same(
    make: Callable[..., Encoder], models: dict[str, Any]
) -> None:
    old = {
        "layer_types": None,
        "rope_parameters": None,
        "global_attn_every_n_layers": 2,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
    }
    check(make("modernbert", **old), models["modernbert"])


@pytest.mark.parametrize("key", ["sliding_window_pattern", "_sliding_window_pattern"])
def test_gemma_of_transformers_4_is_the_same(
    make: Callable[..., Encoder], models: dict[str, Any], key: str
) -> None:
    old = {
        "layer_types": None,
        "rope_parameters": None,
        key: 2,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
    }
    check(make("gemma3", **old), models["gemma3"])


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("modernbert", {"global_rope_theta": 500.0}),
        ("modernbert", {"local_rope_theta": 500.0}),
        ("gemma3", {"rope_theta": 500.0}),
        ("gemma3", {"rope_local_base_freq": 500.0}),
    ],
)
def test_rope_bases_count(
    make: Callable[..., Encoder], models: dict[str, Any], name: str, changes: dict[str, Any]
) -> None:
    encoder = make(name, rope_parameters=None, **changes)
    with pytest.raises(AssertionError):
        check(encoder, models[name])


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("bert", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("bert", {"is_decoder": True}, "is_decoder"),
        ("bert", {"hidden_act": "squish"}, "squish"),
        ("modernbert", {"rope_scaling": {"rope_type": "yarn"}}, "rotary"),
        ("qwen3", {"use_sliding_window": True}, "sliding windows"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("gemma3", {"layer_types": ["full_attention"] + ["sliding_attention"] * 3}, "layer_types"),
    ],
)
def test_config_that_cannot_be_honoured_is_refused(
    make: Callable[..., Encoder], name: str, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelLoadFailed, match=reason):
        make(name, **changes)


def test_qwen3_that_is_not_causal_sees_both_ways(
    make: Callable[..., Encoder], models: dict[str, Any]
) -> None:
    encoder = make("qwen3", pooling="cls_token", is_causal=False)
    expected = [answer["cls"] for answer in models["qwen3"]["vectors"]]
    vectors = encoder.encode(EmbedRequest(inputs=models["qwen3"]["inputs"])).vectors
    np.testing.assert_allclose(vectors[0], expected[0], atol=2e-4)
    assert not np.allclose(vectors[1:], expected[1:], atol=0.1)
