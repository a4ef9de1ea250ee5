"""Tiny float32 models with random weights, one of each kind of cache, loaded from a folder as any other is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models import cache as mlx_lm_cache
from mlx_lm.utils import save_config

from bench.native.folder import save_tokenizer
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.engine.loader import LoadedModel, load

# The stubs of mlx_lm know no types.
_caches: Any = mlx_lm_cache
VOCABULARY = 512
# Several, so that some answers end by themselves.
EOS_IDS = frozenset({1, *range(5, VOCABULARY, 29)})
_COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 1024,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
# Name in mlx_lm.models, and what its configuration has beside the common part.
_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma3_text": {"sliding_window": 24, "sliding_window_pattern": 2, "query_pre_attn_scalar": 8},
    "mamba": {
        "state_size": 8,
        "conv_kernel": 4,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_rank": 4,
        "tie_word_embeddings": True,
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
        "full_attn_idxs": [1, 3],
    },
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A model to soak, and what the engine is told of its caches."""

    architecture: str
    changes: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)


KINDS = {
    **{name: Kind(name) for name in _ARCHITECTURES},
    "llama-8-bits": Kind("llama", {"head_dim": 32}, {"kv_bits": 8, "kv_group_size": 32}),
    "llama-window": Kind("llama", {}, {"kv_window": 40, "kv_sinks": 4}),
}

# The model raises when it is to read this token, whoever else is in the batch.
POISON = VOCABULARY - 1


def make(kind: str) -> LoadedModel:
    """A model whose answers vary: its weights are larger than a real one's at the start; it cannot read ``POISON``."""
    name = KINDS[kind].architecture
    config = {**_COMMON, "model_type": name, **_ARCHITECTURES[name], **KINDS[kind].changes}
    module = import_module(f"mlx_lm.models.{name}")
    mx.random.seed(3)
    model = module.Model(module.ModelArgs.from_dict(config))
    weights = tree_map(lambda leaf: leaf * 3 if leaf.ndim == 2 else leaf, model.parameters())
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / kind
        folder.mkdir()
        path = str(folder / "model.safetensors")
        mx.save_safetensors(path, dict(tree_flatten(weights)), metadata={"format": "mlx"})
        save_config(config, folder / "config.json")
        save_tokenizer(VOCABULARY, folder)
        loaded = load(folder, kind)
    loaded.model.__class__ = _picky(type(loaded.model))
    return replace(loaded, eos_ids=EOS_IDS)


def _picky(kind: type[Any]) -> type[Any]:
    class Picky(kind):  # type: ignore[misc]
        def __call__(self, inputs: mx.array, *arguments: Any, **options: Any) -> Any:
            if mx.any(inputs == POISON).item():
                raise ValueError("indigestible")
            return super().__call__(inputs, *arguments, **options)

    return Picky


@contextmanager
def reading_all(loaded: LoadedModel) -> Iterator[None]:
    """As long as this is open, the model reads ``POISON`` too."""
    picky = type(loaded.model)
    loaded.model.__class__ = picky.__base__
    try:
        yield
    finally:
        loaded.model.__class__ = picky


def mlx_lm_caches(loaded: LoadedModel, limits: EngineLimits) -> list[Any]:
    """mlx_lm's own caches that come to what the engine is told to use; empty."""
    caches: list[Any] = _caches.make_prompt_cache(loaded.model)
    if limits.kv_bits is not None:
        return [_caches.QuantizedKVCache(limits.kv_group_size, limits.kv_bits) for _ in caches]
    if limits.kv_window is not None:
        return [_caches.RotatingKVCache(limits.kv_window, limits.kv_sinks) for _ in caches]
    return caches
