"""Shapes of Llamas that benchmarks fill with random weights: their speed is a real model's, their text is noise."""

from __future__ import annotations

from typing import Any

_TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {**_TINY, "vocab_size": 512},
    "tiny-32k": {**_TINY, "vocab_size": 32_000},  # choosing a token is most of its work
    "smollm-135m": {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49_152,
    },
    "llama-3.2-1b": {
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "intermediate_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128_256,
    },
}

_COMMON = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 131_072,
    "tie_word_embeddings": True,
}


def config_of(shape: str) -> dict[str, Any]:
    """What ``config.json`` says of such a model."""
    return {**_COMMON, **SHAPES[shape]}


def make_llama(config: dict[str, Any], dtype: str = "bfloat16") -> Any:
    """A Llama with random weights, always the same ones, not evaluated."""
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_lm.models import llama

    mx.random.seed(7)
    arguments: Any = llama.ModelArgs
    model = llama.Model(arguments.from_dict(config))
    model.update(tree_map(lambda leaf: leaf.astype(getattr(mx, dtype)), model.parameters()))
    return model
