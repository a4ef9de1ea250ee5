"""The caches that prompts are read into: mlx_lm's own, plain ones, of one row or of several that began together."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_lm.models import cache as mlx_lm_cache

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


def can_be_batched(caches: Sequence[Any]) -> bool:
    """Whether ``RowCaches`` knows what to do with a model's plain caches."""
    return all(
        type(item) in (KVCache, ArraysCache) or (type(item) is RotatingKVCache and item.keep == 0)
        for item in leaves(caches)
    )


def can_be_padded(caches: Sequence[Any]) -> bool:
    """Whether prompts of unequal length can be read together: nothing after a prompt's end may change its cache."""
    return all(type(item) is KVCache for item in leaves(caches))


def kv_bytes(caches: Sequence[Any]) -> int:
    """Bytes that a token takes in the buffers that grow with the length, for one row; 0 while they are empty."""
    return sum(
        (item.keys.nbytes + item.values.nbytes) // (item.keys.shape[0] * item.keys.shape[2])
        for item in leaves(caches)
        if isinstance(item, KVCache) and item.keys is not None
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
    if item.keys is not None:
        row.keys, row.values = item.keys[index : index + 1], item.values[index : index + 1]
    if type(item) is KVCache:
        row.offset = length
    return row


def reserve(caches: Sequence[Any], num_tokens: int, capacity: int) -> None:
    """Let buffers that do not hold so many tokens become this long at the next call of the model.

    By themselves mlx_lm's grow by 256 tokens, and each time copy all there is.
    """
    for item in leaves(caches):
        if type(item) is KVCache and (item.keys is None or item.keys.shape[2] < num_tokens):
            item.step = capacity - item.offset


def unreserve(caches: Sequence[Any]) -> None:
    """Let buffers grow by themselves again."""
    for item in leaves(caches):
        if type(item) is KVCache:
            item.step = KVCache.step
