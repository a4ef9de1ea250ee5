"""The caches of rows that are decoded together.

Prompts are read into mlx_lm's plain caches. To decode together, rows are put side by side, right-aligned: a row
shorter than the longest has unused places before it. Rows come and go by place, and most comings cost one row:

- Keys and values over all tokens (KVCache) lie in ``KVRows``, ours: a newcomer is written into a place that another
  left, and while all rows are of one length there is neither a mask nor an array of offsets, as for one row alone.
- Sliding windows and recurrent states use mlx_lm's own batched forms, which copy at each change; they are small.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models import cache as mlx_lm_cache

# The stubs of mlx_lm know no types.
_caches: Any = mlx_lm_cache
KVCache: Any = _caches.KVCache
RotatingKVCache: Any = _caches.RotatingKVCache
ArraysCache: Any = _caches.ArraysCache
CacheList: Any = _caches.CacheList

# Buffers grow by so many places, as mlx_lm's do.
_GROWTH = 256


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


def row_of(caches: Sequence[Any], index: int, length: int) -> list[Any]:
    """One row of plain caches that hold several, cut to its length; shares their memory until it is used."""
    return [_row(item, index, length) for item in caches]


def _row(item: Any, index: int, length: int) -> Any:
    if isinstance(item, CacheList):
        return CacheList(*(_row(part, index, length) for part in item.caches))
    if isinstance(item, ArraysCache):
        return item.extract(index) if not item.empty() else ArraysCache(len(item.cache))
    row = copy.copy(item)
    if item.keys is not None:
        row.keys, row.values = item.keys[index : index + 1], item.values[index : index + 1]
    if type(item) is KVCache:
        row.offset = length
    return row


class Layout:
    """Where rows lie in the buffers: row ``i`` from ``padding[i]`` to ``end``.

    ``KVRows`` of all layers share one, so that offsets and masks are computed once a step.
    """

    def __init__(self) -> None:
        self.end = 0
        self.padding: list[int] = []
        self._array: mx.array | None = None
        self._offsets: dict[int, mx.array] = {}
        self._masks: dict[tuple[int, int, int | None], mx.array] = {}

    def change(self, end: int, padding: list[int]) -> None:
        """Rows have come or gone."""
        self.end, self.padding = end, padding
        self._array = mx.array(padding, dtype=mx.int32) if any(padding) else None
        self._forget()

    def advance(self, num_tokens: int) -> None:
        """Every row has grown."""
        self.end += num_tokens
        self._forget()

    def _forget(self) -> None:
        self._offsets.clear()
        self._masks.clear()

    @property
    def is_even(self) -> bool:
        """Whether no row has padding."""
        return self._array is None

    def offset(self, end: int) -> int | mx.array:
        """The rows' lengths when the buffers are filled up to ``end``: a number if all are equal, else int32 (rows,)."""
        if self._array is None:
            return end
        if end not in self._offsets:
            self._offsets[end] = end - self._array
        return self._offsets[end]

    def mask(self, end: int, num_tokens: int, window: int | None) -> mx.array:
        """bool (rows, 1, num_tokens, end + num_tokens): which places the next tokens may look at."""
        assert self._array is not None
        asked = (end, num_tokens, window)
        if asked not in self._masks:
            places = mx.arange(end + num_tokens)
            mask = places >= self._array[:, None, None, None]
            if num_tokens > 1 or window is not None:
                own = mx.arange(end, end + num_tokens)[:, None]
                mask = mask & (places <= own)
                if window is not None:
                    mask = mask & (own < places + window)
            self._masks[asked] = mask
        return self._masks[asked]


class KVRows(KVCache):  # type: ignore[misc]
    """Keys and values of several rows, (rows, heads, places, head size) each; None until the first token."""

    def __init__(self, layout: Layout) -> None:
        self.keys: mx.array | None = None
        self.values: mx.array | None = None
        self._layout = layout
        self._end = layout.end

    @property
    def offset(self) -> int | mx.array:
        """See ``Layout.offset``."""
        return self._layout.offset(self._end)

    def size(self) -> int:
        """Places in use."""
        return self._end

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append one step's keys and values; return all."""
        start, self._end = self._end, self._end + keys.shape[2]
        self.keys = _reserve(self.keys, keys, start, self._end)
        self.values = _reserve(self.values, values, start, self._end)
        self.keys[..., start : self._end, :] = keys
        self.values[..., start : self._end, :] = values
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        """The places in use."""
        assert self.keys is not None and self.values is not None
        return self.keys[..., : self._end, :], self.values[..., : self._end, :]

    @property
    def state(self) -> tuple[mx.array | None, mx.array | None, int]:
        """As mlx_lm's."""
        return self.keys, self.values, self._end

    def make_mask(self, num_tokens: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """As mlx_lm's, and None whenever one row alone would have none."""
        if self._layout.is_even:
            return super().make_mask(num_tokens, return_array=return_array, window_size=window_size)
        return self._layout.mask(self._end, num_tokens, window_size)

    def place(self, rows: Sequence[Any], places: Sequence[int]) -> None:
        """Write rows (plain caches of one row) into places, new ones at the end among them.

        The layout has been changed already, but the buffers have not.
        """
        layout = self._layout
        end, self._end = self._end, layout.end
        if all(row.keys is None for row in rows) and self.keys is None:
            return
        if len(layout.padding) == 1 and rows[0].offset == layout.end:
            self.keys, self.values = rows[0].keys, rows[0].values  # alone: as it is
            return
        sample: Any = next((row for row in rows if row.keys is not None), self)
        new_keys, new_values = [row.keys for row in rows], [row.values for row in rows]
        lengths = [0 if row.keys is None else int(row.offset) for row in rows]
        self.keys = _place(self.keys, sample.keys, new_keys, lengths, places, end, layout)
        self.values = _place(self.values, sample.values, new_values, lengths, places, end, layout)

    def take(self, places: Sequence[int], trim: int) -> None:
        """Keep these places, in this order, without the first ``trim`` of each row."""
        end, self._end = self._end, self._layout.end
        if self.keys is not None and self.values is not None:
            index = mx.array(list(places))
            self.keys = mx.take(self.keys[..., trim:end, :], index, axis=0)
            self.values = mx.take(self.values[..., trim:end, :], index, axis=0)


def _capacity(end: int) -> int:
    return (end // _GROWTH + 1) * _GROWTH


def _reserve(buffer: mx.array | None, like: mx.array, start: int, end: int) -> mx.array:
    if buffer is not None and buffer.shape[2] >= end:
        return buffer
    rows, heads, _, size = like.shape
    if buffer is None:
        return mx.zeros((rows, heads, _capacity(end), size), like.dtype)
    room = mx.zeros((rows, heads, _capacity(end) - start, size), like.dtype)
    return mx.concatenate([buffer[..., :start, :], room], axis=2)


def _place(
    buffer: mx.array | None,
    sample: mx.array,
    rows: Sequence[mx.array | None],
    lengths: Sequence[int],
    places: Sequence[int],
    end: int,
    layout: Layout,
) -> mx.array:
    """``buffer`` (filled up to ``end``) with rows written where the layout wants them."""
    _, heads, _, size = sample.shape
    num_rows = len(layout.padding)
    if buffer is None:
        buffer = mx.zeros((num_rows, heads, _capacity(layout.end), size), sample.dtype)
    elif layout.end > end:  # the newcomer is the longest: all others move
        before = mx.zeros((buffer.shape[0], heads, layout.end - end, size), buffer.dtype)
        after = mx.zeros((buffer.shape[0], heads, _capacity(layout.end) - layout.end, size), buffer.dtype)
        buffer = mx.concatenate([before, buffer[..., :end, :], after], axis=2)
    if num_rows > buffer.shape[0]:
        more = mx.zeros((num_rows - buffer.shape[0], heads, buffer.shape[2], size), buffer.dtype)
        buffer = mx.concatenate([buffer, more], axis=0)
    for row, length, place in zip(rows, lengths, places, strict=True):
        if row is not None and length:
            buffer[place : place + 1, :, layout.end - length : layout.end] = row[..., :length, :]
    return buffer


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

    def place(self, rows: Sequence[list[Any]], lengths: Sequence[int], places: Sequence[int]) -> None:
        """Put rows into places.

        Args:
            rows: each row's plain caches, one a layer; they must not be used afterwards.
            lengths: tokens in each row's caches.
            places: where to; each either given up, or the next new one.
        """
        old_end, old_num = self.layout.end, self.num_rows
        self._given_up.difference_update(places)
        stays = [place not in places and place not in self._given_up for place in range(old_num)]
        end = max([*lengths, old_end if any(stays) else 0])
        # A given up place's padding does not matter, but must not make the rows uneven.
        padding = [
            old + end - old_end if stay else 0 for old, stay in zip(self.layout.padding, stays, strict=True)
        ] + [0] * (max(places) + 1 - old_num)
        for place, length in zip(places, lengths, strict=True):
            padding[place] = end - length
        if not self.layers:
            self.layers = [_empty(item, self.layout) for item in rows[0]]
        self.layout.change(end, padding)
        order = list(range(len(padding)))
        for index, place in enumerate(places):
            order[place] = old_num + index
        self.layers = [
            _place_layer(layer, [row[index] for row in rows], places, old_num, order)
            for index, layer in enumerate(self.layers)
        ]

    def take(self, places: Sequence[int]) -> None:
        """Keep these places, at least one, in this order; the padding that all of them have goes."""
        padding = [self.layout.padding[place] for place in places]
        trim = min(padding)
        self._given_up.clear()
        self.layout.change(self.layout.end - trim, [row - trim for row in padding])
        self.layers = [_take_layer(layer, places, trim) for layer in self.layers]

    def advance(self, num_tokens: int = 1) -> None:
        """The model has been run on so many tokens of every row."""
        self.layout.advance(num_tokens)


def _empty(item: Any, layout: Layout) -> Any:
    if isinstance(item, CacheList):
        return CacheList(*(_empty(part, layout) for part in item.caches))
    return KVRows(layout) if type(item) is KVCache else None


def _place_layer(
    layer: Any, rows: Sequence[Any], places: Sequence[int], old_num: int, order: Sequence[int]
) -> Any:
    if isinstance(layer, CacheList):
        return CacheList(
            *(
                _place_layer(part, [row.caches[index] for row in rows], places, old_num, order)
                for index, part in enumerate(layer.caches)
            )
        )
    if isinstance(layer, KVRows):
        layer.place(rows, places)
        return layer
    if old_num == 0 and len(rows) == 1:
        return rows[0]
    batch = _merge(rows)
    if old_num:
        layer = _merge([layer]) if type(layer) is RotatingKVCache else layer
        layer.extend(batch)
        batch = layer
    if list(order) != list(range(old_num + len(rows))):
        batch.filter(list(order))
    return _without_padding(batch)


def _take_layer(layer: Any, places: Sequence[int], trim: int) -> Any:
    if isinstance(layer, CacheList):
        return CacheList(*(_take_layer(part, places, trim) for part in layer.caches))
    if isinstance(layer, KVRows):
        layer.take(places, trim)
    elif type(layer) is RotatingKVCache:
        assert list(places) == [0]
    else:
        layer.filter(list(places))
        if len(places) == 1 and not isinstance(layer, ArraysCache):
            return layer.extract(0)
    return layer


def _merge(rows: Sequence[Any]) -> Any:
    return type(rows[0]).merge(rows)


def _without_padding(batch: Any) -> Any:
    # mlx_lm gives fresh states zeros here, and counts them down by one unevaluated array a token.
    if isinstance(batch, ArraysCache):
        batch.left_padding = None
    return batch
