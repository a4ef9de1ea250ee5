"""The caches of rows that are decoded together.

Rows come and go by place, and most comings cost one row:

- Keys and values over all tokens lie in ``KVRows`` or ``QuantizedRows``, those of sliding windows in ``WindowRows``.
- Recurrent states use mlx_lm's own batched form, which copies at each change; they are small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlxbridge.host.engine.caches.caches import (
    ArraysCache,
    CacheList,
    KVCache,
    Source,
    is_window,
    leaves,
    row_of,
)
from mlxbridge.host.engine.caches.kv_rows import Block, KVRows, blocks_of
from mlxbridge.host.engine.caches.layout import Layout
from mlxbridge.host.engine.caches.quantized_cache import QuantizedCache
from mlxbridge.host.engine.caches.quantized_rows import QuantizedRows
from mlxbridge.host.engine.caches.window_rows import WindowRows
from mlxbridge.host.engine.rows import Job


@dataclass(slots=True)
class Ready:
    """A job whose context, but for its last token, is in plain caches."""

    job: Job
    source: Source


class RowCaches:
    """The caches of all layers for rows that are decoded together.

    Attributes:
        layers: what the model takes as ``cache``.
    """

    def __init__(self) -> None:
        self.layers: list[Any] = []
        self.layout = Layout()
        self._given_up: set[int] = set()

    @property
    def num_rows(self) -> int:
        """Places, given up ones included."""
        return len(self.layout.padding)

    def give_up(self, place: int) -> None:
        """A row is not needed any more; its place goes with the next ``take``, or to a newcomer."""
        self._given_up.add(place)

    def place(self, sources: Sequence[Source], places: Sequence[int]) -> None:
        """Put rows into places, each either given up, or the next new one; the sources stay as they are."""
        self.align()
        old_end, old_num = self.layout.end, self.num_rows
        self._given_up.difference_update(places)
        stays = [place not in places and place not in self._given_up for place in range(old_num)]
        end = max([*(source.length for source in sources), old_end if any(stays) else 0])
        # A given up place's padding does not matter, but must not make the rows uneven.
        padding = [
            old + end - old_end if stay else 0 for old, stay in zip(self.layout.padding, stays, strict=True)
        ] + [0] * (max(places) + 1 - old_num)
        for place, source in zip(places, sources, strict=True):
            padding[place] = end - source.length
        if not self.layers:
            self.layers = [_empty(item, self.layout) for item in sources[0].caches]
        self.layout.change(end, padding)
        order = list(range(len(padding)))
        for index, place in enumerate(places):
            order[place] = old_num + index
        newcomers = _Newcomers(sources, blocks_of(sources, places), old_num, order)
        self.layers = [newcomers.place(layer, (number,)) for number, layer in enumerate(self.layers)]

    def take(self, places: Sequence[int]) -> None:
        """Keep these places, at least one, in this order; the padding that all of them have goes."""
        self.align()
        padding = [self.layout.padding[place] for place in places]
        trim = min(padding)
        self._given_up.clear()
        self.layout.change(self.layout.end - trim, [row - trim for row in padding])
        self.layers = [_take_layer(layer, places, trim) for layer in self.layers]

    def advance(self, num_tokens: int = 1) -> None:
        """The model has been run on so many tokens of every row."""
        self.layout.advance(num_tokens)

    def retract(self, num_dropped: Sequence[int]) -> None:
        """Drop so many of each row's last tokens; of caches that ``can_be_retracted`` alone."""
        self.layout.retract(
            [None if place in self._given_up else num for place, num in enumerate(num_dropped)]
        )
        for layer in leaves(self.layers):
            if isinstance(layer, KVRows):
                layer.retract()
            else:
                layer.trim(layer.offset - self.layout.end)

    def align(self) -> None:
        """Let all rows end at the same place, as they do until ``retract``."""
        layout = self.layout
        if layout.is_aligned:
            return
        padding = [row + lag for row, lag in zip(layout.padding, layout.lags, strict=True)]
        for layer in leaves(self.layers):
            layer.align()
        layout.change(layout.end, padding)

    def adopt(self, source: Source) -> None:
        """Become one row's plain caches, for a model that cannot be batched."""
        self.layers = [row_of(item, source.index, source.length) for item in source.caches]
        self.layout.change(source.length, [0])

    def length(self, place: int) -> int:
        """A row's tokens."""
        return self.layout.length(place)

    def row(self, place: int) -> list[Any]:
        """A row as plain caches, to be read before the next step; it shares the buffers' memory."""
        return [_taken_out(layer, place) for layer in self.layers]


def _empty(item: Any, layout: Layout) -> Any:
    if isinstance(item, CacheList):
        return CacheList(*(_empty(part, layout) for part in item.caches))
    if isinstance(item, QuantizedCache):
        return QuantizedRows(layout, item.quantization)
    if is_window(item):
        return WindowRows(layout, max_size=item.max_size, num_sinks=item.keep)
    return KVRows(layout) if type(item) is KVCache else None


class _Newcomers:
    """Rows on their way into every layer."""

    def __init__(
        self, sources: Sequence[Source], blocks: Sequence[Block], old_num: int, order: Sequence[int]
    ) -> None:
        self._sources = sources
        self._blocks = blocks
        self._old_num = old_num
        # By place: where its row is, among the old rows and after them the new ones.
        self._order = order

    def place(self, layer: Any, path: tuple[int, ...]) -> Any:
        """The layer with the newcomers in it; ``path`` leads to it through nested lists of caches."""
        if isinstance(layer, CacheList):
            return CacheList(*(self.place(part, (*path, number)) for number, part in enumerate(layer.caches)))
        if isinstance(layer, KVRows):
            layer.place([(_follow(block.caches, path), block) for block in self._blocks])
            return layer
        rows = [row_of(_follow(row.caches, path), row.index, row.length) for row in self._sources]
        if self._old_num == 0 and len(rows) == 1:
            return rows[0]
        batch = ArraysCache.merge(rows)
        if self._old_num:
            layer.extend(batch)
            batch = layer
        if list(self._order) != list(range(self._old_num + len(rows))):
            batch.filter(list(self._order))
        # mlx_lm gives fresh states zeros here, and counts them down by one unevaluated array a token.
        batch.left_padding = None
        return batch


def _follow(caches: Sequence[Any], path: tuple[int, ...]) -> Any:
    item = caches[path[0]]
    for number in path[1:]:
        item = item.caches[number]
    return item


def _take_layer(layer: Any, places: Sequence[int], trim: int) -> Any:
    if isinstance(layer, CacheList):
        return CacheList(*(_take_layer(part, places, trim) for part in layer.caches))
    if isinstance(layer, KVRows):
        layer.take(places, trim)
    else:
        layer.filter(list(places))
    return layer


def _taken_out(layer: Any, place: int) -> Any:
    if isinstance(layer, CacheList):
        return CacheList(*(_taken_out(part, place) for part in layer.caches))
    if isinstance(layer, KVRows):
        return layer.row(place)
    if isinstance(layer, ArraysCache):
        row = ArraysCache(len(layer.cache))
        row.cache = [None if part is None else part[place : place + 1] for part in layer.cache]
        return row
    return layer
