"""Parts of plain caches: cutting them out, and building plain caches from them.

A run's part has the keys and values of some tokens, an end's the whole state of what cannot be cut by tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlxbridge.host.engine.caches import KVCache, RotatingKVCache, leaves

# Of a run: arrays (layers' keys and values, heads, tokens, head size), one for each kind of head. Of an end: a list of
# arrays for each cache that cannot be cut.
Content = list[Any]


class CacheParts:
    """Cuts and builds a model's plain caches.

    All layers' keys and values of a run lie in one array for each kind of head, so that a run is copied at once and
    not layer by layer.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        # By kind of head: which keys and values its array has, as number of the cache and name of the attribute.
        self._slots: list[list[tuple[int, str]]] = []

    def slabs(self, caches: Sequence[Any], start: int, stop: int) -> list[mx.array]:
        """Tokens ``start`` to ``stop`` of all rows: by kind of head (keys and values, rows, heads, tokens, head size)."""
        items = list(leaves(caches))
        kinds: dict[Any, list[tuple[int, str]]] = {}
        for place, item in enumerate(items):
            if type(item) is KVCache and item.keys is not None:
                for name in ("keys", "values"):
                    _, num_heads, _, size = (buffer := getattr(item, name)).shape
                    kinds.setdefault((num_heads, size, buffer.dtype), []).append((place, name))
        self._slots = list(kinds.values())
        return [
            mx.stack([getattr(items[place], name)[:, :, start:stop] for place, name in slots])
            for slots in self._slots
        ]

    def run(self, slabs: Sequence[mx.array], index: int, start: int, stop: int) -> Content:
        """A row's part of slabs, copied."""
        return [mx.contiguous(slab[:, index, :, start:stop]) for slab in slabs]

    def end(self, caches: Sequence[Any], index: int, length: int) -> Content:
        """One row of the caches that cannot be cut, copied; sliding windows in the order of time."""
        states: Content = []
        # A gather, because a mere copy may keep a buffer that is little larger, and states are small.
        rows = mx.array([index])
        for item in leaves(caches):
            if type(item) is KVCache:
                continue
            if type(item) is RotatingKVCache:
                num_kept = min(length, item.max_size)
                buffers = [item._temporal_order(each)[:, :, -num_kept:] for each in (item.keys, item.values)]
            else:
                buffers = item.cache
            states.append([None if each is None else mx.take(each, rows, axis=0) for each in buffers])
        return states

    def build(self, runs: Sequence[Sequence[Content]], ends: Sequence[Content], length: int) -> list[Any]:
        """Plain caches with several rows of one length.

        Args:
            runs: each row's, in order.
            ends: each row's; none if all caches can be cut.
            length: tokens.
        """
        caches: list[Any] = make_prompt_cache(self._model)
        if not length:
            return caches
        items = list(leaves(caches))
        for slots, slab in zip(self._slots, _rows(runs), strict=True):
            for index, (place, name) in enumerate(slots):
                setattr(items[place], name, slab[index])
                items[place].offset = length
        if ends:
            _restore(items, ends, length)
        return caches


def num_bytes(content: Any) -> int:
    """What a part's arrays take."""
    if isinstance(content, list):
        return sum(num_bytes(each) for each in content)
    return 0 if content is None else int(content.nbytes)


def _rows(runs: Sequence[Sequence[Content]]) -> list[mx.array]:
    """As ``CacheParts.slabs``, out of runs."""
    if all(row is runs[0] for row in runs):
        # All rows are one: it is the first pass that copies.
        return [
            mx.broadcast_to(slab[:, None], (slab.shape[0], len(runs), *slab.shape[1:]))
            for slab in _joined(runs[0])
        ]
    return [mx.stack(list(slabs), axis=1) for slabs in zip(*map(_joined, runs), strict=True)]


def _joined(row: Sequence[Content]) -> list[mx.array]:
    return [mx.concatenate(list(blocks), axis=2) for blocks in zip(*row, strict=True)]


def _restore(items: Iterable[Any], ends: Sequence[Content], length: int) -> None:
    """Put rows' states side by side into empty caches; as new arrays, since caches assign to parts of theirs."""
    kept = (item for item in items if type(item) is not KVCache)
    for item, *states in zip(kept, *ends, strict=True):
        merged = [
            None if parts[0] is None else mx.concatenate(list(parts), axis=0)
            for parts in zip(*states, strict=True)
        ]
        if type(item) is RotatingKVCache:
            item.keys, item.values = merged
            item.offset, item._idx = length, item.keys.shape[2]
        else:
            item.cache = merged
