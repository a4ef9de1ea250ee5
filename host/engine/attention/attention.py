"""Lets mlx_lm's models attend with our kernel where it is the better one: on CUDA, for rows decoded together.

mlx_lm's models call one function, by a name in their own module; ``install`` puts another in its place, which passes
everything else on. It changes modules, not models: whatever else runs them in this process is served as before.
"""

from __future__ import annotations

import sys
from functools import wraps
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.attention.attention_kernel import HEAD_SIZES, attend
from mlxbridge.host.engine.caches.kv_rows import KVRows
from mlxbridge.host.engine.device import is_cuda

_NAME = "scaled_dot_product_attention"
_DTYPES = (mx.float32, mx.float16, mx.bfloat16)


def install(model: Any) -> None:
    """Do so for the modules of a model's layers; nothing where the device is no NVIDIA card."""
    if not is_cuda():
        return
    for name in {type(part).__module__ for part in model.modules()}:
        original = getattr(sys.modules[name], _NAME, None)
        if original is not None and not hasattr(original, "__wrapped__"):
            setattr(sys.modules[name], _NAME, _with_kernel(original))


def _with_kernel(original: Any) -> Any:
    @wraps(original)
    def scaled_dot_product_attention(
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        cache: Any,
        scale: float,
        mask: Any,
        **others: Any,
    ) -> mx.array:
        if type(cache) is KVRows and not others and _can_attend(queries, keys, values, cache, mask):
            assert cache.keys is not None and cache.values is not None
            layout, end = cache.layout, cache.size()
            return attend(queries, cache.keys, cache.values, layout.begin, layout.end_array(end), end, scale)
        attended: mx.array = original(queries, keys, values, cache, scale, mask, **others)
        return attended

    return scaled_dot_product_attention


def _can_attend(queries: mx.array, keys: mx.array, values: mx.array, cache: KVRows, mask: Any) -> bool:
    """Whether this is one new token a row over just what the cache holds, padding apart."""
    num_rows, _, num_tokens, size = queries.shape
    return (
        num_rows > 1  # for one row MLX's own kernel is as fast
        and num_tokens == 1
        and size in HEAD_SIZES
        and values.shape[-1] == size
        and queries.dtype in _DTYPES
        and queries.dtype == keys.dtype == values.dtype
        and cache.latest is not None
        and keys is cache.latest[0]
        and values is cache.latest[1]
        and cache.layout.is_padding_mask(mask, cache.size() - 1)
    )
