"""Parts of plain caches: cutting them out, and building plain caches from them.

A run's part has the keys and values of some tokens, an end's the whole state of what cannot be cut by tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.caches.cache_plan import CachePlan
from mlxbridge.host.engine.caches.caches import buffers, in_time, is_growing, is_window, leaves, set_buffers

# Of a run: arrays (layers' keys and values, heads, tokens, size), one for each kind of buffer. Of an end: a list of
# arrays for each cache that cannot be cut.
Content = list[Any]


class CacheParts:
    """Cuts and builds a model's plain caches.

    All layers' keys and values of a run lie in one array for each kind of buffer, so that a run is copied at once and
    not layer by layer. Buffers are of a kind if they differ neither in heads nor size nor dtype.
    """

    def __init__(self, plan: CachePlan) -> None:
        self._plan = plan
        # By kind: which buffers its array has, as number of the cache and number among its buffers.
        self._slots: list[list[tuple[int, int]]] = []

    def slabs(self, caches: Sequence[Any], start: int, stop: int) -> list[mx.array]:
        """Tokens ``start`` to ``stop`` of all rows: by kind of buffer (keys and values, rows, heads, tokens, size)."""
        held = [buffers(item) if is_growing(item) else [] for item in leaves(caches)]
        kinds: dict[Any, list[tuple[int, int]]] = {}
        for place, arrays in enumerate(held):
            for number, array in enumerate(arrays):
                _, num_heads, _, size = array.shape
                kinds.setdefault((num_heads, size, array.dtype), []).append((place, number))
        self._slots = list(kinds.values())
        return [
            mx.stack([held[place][number][:, :, start:stop] for place, number in slots])
            for slots in self._slots
        ]

    def run(self, slabs: Sequence[mx.array], index: int, start: int, stop: int) -> Content:
        """A row's part of slabs, copied."""
        return [mx.contiguous(slab[:, index, :, start:stop]) for slab in slabs]

    def end(self, caches: Sequence[Any], index: int) -> Content:
        """One row of the caches that cannot be cut, copied; sliding windows in the order of time."""
        states: Content = []
        # A gather, because a mere copy may keep a buffer that is little larger, and states are small.
        rows = mx.array([index])
        for item in leaves(caches):
            if is_growing(item):
                continue
            arrays = in_time(item) if is_window(item) else item.cache
            states.append([None if each is None else mx.take(each, rows, axis=0) for each in arrays])
        return states

    def build(self, runs: Sequence[Sequence[Content]], ends: Sequence[Content], length: int) -> list[Any]:
        """Plain caches with several rows of one length.

        Args:
            runs: each row's, in order.
            ends: each row's; none if all caches can be cut.
            length: tokens.
        """
        caches = self._plan.make()
        if not length:
            return caches
        items = list(leaves(caches))
        held: dict[int, dict[int, mx.array]] = {}
        for slots, slab in zip(self._slots, _rows(runs), strict=True):
            for index, (place, number) in enumerate(slots):
                held.setdefault(place, {})[number] = slab[index]
        for place, arrays in held.items():
            set_buffers(items[place], [arrays[number] for number in sorted(arrays)])
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
    kept = (item for item in items if not is_growing(item))
    for item, *states in zip(kept, *ends, strict=True):
        merged = [
            None if parts[0] is None else mx.concatenate(list(parts), axis=0)
            for parts in zip(*states, strict=True)
        ]
        if is_window(item):
            item.keys, item.values = merged
            item.offset, item._idx = length, item.keys.shape[2]
        else:
            item.cache = merged
