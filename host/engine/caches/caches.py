"""The caches that prompts are read into: plain ones, mlx_lm's or in their manner, of one row or of several that began together."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models import cache as mlx_lm_cache

from mlxbridge.host.engine.caches.quantized_cache import QuantizedCache
from mlxbridge.host.engine.caches.window_cache import WindowCache

# The stubs of mlx_lm know no types.
_caches: Any = mlx_lm_cache
KVCache: Any = _caches.KVCache
RotatingKVCache: Any = _caches.RotatingKVCache
ArraysCache: Any = _caches.ArraysCache
CacheList: Any = _caches.CacheList


def leaves(caches: Iterable[Any]) -> Iterable[Any]:
    """The caches in a model's list of them, with nested ones unpacked."""
    for item in caches:
        yield from leaves(item.caches) if isinstance(item, CacheList) else (item,)


def is_growing(item: Any) -> bool:
    """Whether a plain cache has keys and values over all tokens, so that any length of them can be cut off."""
    return type(item) in (KVCache, QuantizedCache)


def is_window(item: Any) -> bool:
    """Whether a plain cache has a sliding window that shows each token what it would see alone."""
    return type(item) is WindowCache or (type(item) is RotatingKVCache and item.keep == 0)


def in_time(window: Any) -> list[mx.array]:
    """Keys and values of a plain sliding window, oldest first: (rows, heads, ``max_size`` or fewer, size) each."""
    kept = []
    for buffer in buffers(window):
        buffer = window._temporal_order(buffer)
        if (surplus := buffer.shape[2] - window.max_size) > 0:
            buffer = window._trim(surplus, buffer)
        kept.append(buffer)
    return kept


def buffers(item: Any) -> list[mx.array]:
    """The arrays that hold a cache's keys, then those of its values, (rows, heads, places, …) each; none while it is empty."""
    if item.keys is None:
        return []
    return [*item.keys, *item.values] if isinstance(item.keys, tuple) else [item.keys, item.values]


def set_buffers(item: Any, arrays: Sequence[mx.array]) -> None:
    """Put such arrays in."""
    half = len(arrays) // 2
    item.keys, item.values = arrays if half == 1 else (tuple(arrays[:half]), tuple(arrays[half:]))


def can_be_batched(caches: Sequence[Any]) -> bool:
    """Whether ``RowCaches`` knows what to do with a model's plain caches."""
    return all(is_growing(item) or is_window(item) or type(item) is ArraysCache for item in leaves(caches))


def can_be_padded(caches: Sequence[Any]) -> bool:
    """Whether prompts of unequal length can be read together: nothing after a prompt's end may change its cache."""
    return all(is_growing(item) for item in leaves(caches))


def kv_bytes(caches: Sequence[Any]) -> int:
    """Bytes that a token takes in the buffers that grow with the length, for one row; 0 while they are empty."""
    return sum(
        buffer.nbytes // (buffer.shape[0] * buffer.shape[2])
        for item in leaves(caches)
        if is_growing(item)
        for buffer in buffers(item)
    )


def nbytes(caches: Iterable[Any]) -> int:
    """Bytes of all their buffers."""
    return sum(item.nbytes for item in leaves(caches) if not item.empty())


@dataclass(slots=True, eq=False)
class Source:
    """One row of plain caches, which may hold several: where a row comes from when it joins others.

    Attributes:
        caches: one a layer; they are read only.
        index: the row's.
        length: its tokens; what the caches hold behind them does not count.
    """

    caches: Sequence[Any]
    index: int
    length: int


def row_of(item: Any, index: int, length: int) -> Any:
    """One row of a layer's plain cache, cut to its length; shares memory with it until either is used."""
    if isinstance(item, CacheList):
        return CacheList(*(row_of(part, index, length) for part in item.caches))
    if isinstance(item, ArraysCache):
        return item.extract(index) if not item.empty() else ArraysCache(len(item.cache))
    row = copy.copy(item)
    if not item.empty():
        set_buffers(row, [buffer[index : index + 1] for buffer in buffers(item)])
    if is_growing(item):
        row.offset = length
    return row


def reserve(caches: Sequence[Any], num_tokens: int, capacity: int) -> None:
    """Let buffers that do not hold so many tokens become this long at the next call of the model.

    By themselves mlx_lm's grow by 256 tokens, and each time copy all there is.
    """
    for item in leaves(caches):
        if is_growing(item) and (item.empty() or buffers(item)[0].shape[2] < num_tokens):
            item.step = capacity - item.offset


def unreserve(caches: Sequence[Any]) -> None:
    """Let buffers grow by themselves again."""
    for item in leaves(caches):
        if is_growing(item):
            item.step = KVCache.step
