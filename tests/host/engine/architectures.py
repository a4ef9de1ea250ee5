"""Tiny float32 models with random weights, one of each kind of cache."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import mlx.core as mx
import mlx.nn
from mlx.utils import tree_map

COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "vocab_size": 384,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
# Of keys and values of one token in a model with nothing but these.
TOKEN_BYTES = 2 * 2 * 2 * 8 * 4
MAMBA: dict[str, Any] = {
    "intermediate_size": 64,
    "state_size": 8,
    "conv_kernel": 4,
    "use_bias": False,
    "use_conv_bias": True,
    "time_step_rank": 4,
    "tie_word_embeddings": True,
}
# Name in mlx_lm.models, and what its configuration has beside COMMON.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "gemma3_text": {"sliding_window": 12, "sliding_window_pattern": 2, "query_pre_attn_scalar": 8},
    "mamba": MAMBA,
    "mamba2": {
        **MAMBA,
        "num_heads": 4,
        "head_dim": 16,
        "n_groups": 1,
        "expand": 2,
        "time_step_limit": (0.0, 100.0),
        "chunk_size": 16,
        "layer_norm_epsilon": 1e-5,
        "norm_eps": 1e-5,
    },
    "lfm2": {
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 32,
        "block_ff_dim": 64,
        "block_multiple_of": 16,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "full_attn_idxs": [1],
    },
    "qwen3_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "moe_intermediate_size": 32,
        "norm_topk_prob": True,
    },
}
# Of each kind of cache one: of all tokens, of a window beside these, of states, of states beside all tokens.
ONE_OF_A_KIND = ("llama", "gemma3_text", "mamba", "lfm2")

# Heads large enough to have their keys and values quantized; lfm2 has no size of its own for them.
LARGE_HEADS: dict[str, Any] = {"head_dim": 32}
LARGE_LFM2: dict[str, Any] = {"hidden_size": 128, "block_dim": 128}


def make_model(name: str, *, bits: int | None = None, **changes: Any) -> Any:
    """A model whose answers vary: weights larger than at a real one's start."""
    module = import_module(f"mlx_lm.models.{name}")
    mx.random.seed(3)
    config = {**COMMON, "model_type": name, **ARCHITECTURES.get(name, {}), **changes}
    model = module.Model(module.ModelArgs.from_dict(config))
    model.update(tree_map(lambda leaf: leaf * 3 if leaf.ndim == 2 else leaf, model.parameters()))
    if bits is not None:
        quantize: Any = mlx.nn.quantize  # type: ignore[attr-defined]
        quantize(model, group_size=32, bits=bits)
    mx.eval(model.parameters())
    return model
