"""What can be said about a loaded embedding model or reranker: size and precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mlxbridge.host.embeddings import nn


def facts(config: Mapping[str, Any], parts: Sequence[nn.Module]) -> dict[str, Any]:
    """Facts about a model, in plain values that msgpack can carry.

    Args:
        config: ``config.json``.
        parts: all that has weights.

    Returns:
        architecture, model_type, bytes (of the weights), dtype (of most of those that are not quantized), quantization (bits
        and group_size, or None), vocabulary_size, layers.
    """
    flat: list[Any] = [leaf for part in parts for leaf in tree_flatten(part.parameters())]
    leaves: list[mx.array] = [leaf for _, leaf in flat]
    floats = [leaf for leaf in leaves if mx.issubdtype(leaf.dtype, mx.floating)]
    quantization = config.get("quantization")
    return {
        "architecture": (config.get("architectures") or [config["model_type"]])[0],
        "model_type": config["model_type"],
        "bytes": sum(leaf.nbytes for leaf in leaves),
        "dtype": str(max(floats, key=lambda leaf: leaf.size).dtype).removeprefix("mlx.core."),
        "quantization": quantization and {key: quantization[key] for key in ("bits", "group_size")},
        "vocabulary_size": config["vocab_size"],
        "layers": config["num_hidden_layers"],
    }
