"""What can be said about a loaded model: size, precision, context, memory for each token."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models.cache import KVCache, make_prompt_cache
from mlx_lm.utils import get_total_parameters

from mlxbridge.host.engine.loader import LoadedModel, text_config


def facts(loaded: LoadedModel) -> dict[str, Any]:
    """Facts about a model, in plain values that msgpack can carry.

    Returns:
        architecture, model_type, parameters (a quantized weight counts as the weight it stands for), bytes
        (of the weights), dtype (of the unquantized ones), quantization (bits and group_size, or None),
        context_length (tokens or None), vocabulary_size, layers, kv_bytes_per_token (bytes, None where it is
        not one number).
    """
    config = loaded.config
    flat: Any = tree_flatten(loaded.model.parameters())
    leaves: list[mx.array] = [leaf for _, leaf in flat]
    return {
        "architecture": (config.get("architectures") or [config.get("model_type")])[0],
        "model_type": config.get("model_type"),
        "parameters": int(get_total_parameters(loaded.model)),  # type: ignore[no-untyped-call]
        "bytes": sum(leaf.nbytes for leaf in leaves),
        "dtype": _dtype(leaves),
        "quantization": _quantization(config),
        "context_length": loaded.context_length,
        "vocabulary_size": loaded.vocabulary_size,
        "layers": _num_layers(loaded),
        "kv_bytes_per_token": kv_bytes_per_token(loaded.model),
    }


def kv_bytes_per_token(model: Any) -> int | None:
    """Bytes of cache that one more token takes, over all layers; measured by running one token.

    Returns:
        None where it is not one number: sliding windows, recurrent states.
    """
    caches = make_prompt_cache(model)
    if any(type(cache) is not KVCache for cache in caches):
        return None
    mx.eval(model(mx.zeros((1, 1), dtype=mx.int32), cache=caches))
    return sum(_row_bytes(cache.keys) + _row_bytes(cache.values) for cache in caches)


def _row_bytes(buffer: mx.array) -> int:
    _, num_heads, _, head_dim = buffer.shape
    return num_heads * head_dim * int(buffer.dtype.size)


def _dtype(leaves: list[mx.array]) -> str | None:
    floats = [leaf for leaf in leaves if mx.issubdtype(leaf.dtype, mx.floating)]
    if not floats:
        return None
    return str(max(floats, key=lambda leaf: leaf.size).dtype).removeprefix("mlx.core.")


def _quantization(config: dict[str, Any]) -> dict[str, int] | None:
    settings = config.get("quantization")
    if not isinstance(settings, dict):
        return None
    return {key: settings[key] for key in ("bits", "group_size") if key in settings}


def _num_layers(loaded: LoadedModel) -> int | None:
    layers = getattr(loaded.model, "layers", None)
    return len(layers) if layers is not None else text_config(loaded.config).get("num_hidden_layers")
