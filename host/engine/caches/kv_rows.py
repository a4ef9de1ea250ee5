"""Keys and values, over all tokens, of rows that are decoded together.

A newcomer is written into a place that another left. Newcomers whose prompts were read side by side are written
together: one gather, which aligns them right, and one write for each run of places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.caches.caches import KVCache, Source, buffers, set_buffers
from mlxbridge.host.engine.caches.layout import Layout
from mlxbridge.host.engine.shapes import view_length

# Buffers grow by so many places, as mlx_lm's do.
_GROWTH = 256
# On CUDA, MLX attends to one row with cuDNN where its buffer's length is a multiple of 256. That takes longer up to some
# 10,000 tokens (300 tokens: 38 us a layer against 24; 16,000: 48 against 55), and plans anew whenever the buffer grows.
_ODD = 8 if mx.cuda.is_available() else 0


@dataclass(slots=True, eq=False)
class Block:
    """Newcomers from the same plain caches, and the places they get.

    Attributes:
        shift: int32 (rows, 1, places, 1), which token of its prompt a right-aligned row has where; None if all rows
            are equally long.
    """

    caches: Sequence[Any]
    rows: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    shift: mx.array | None = None

    @property
    def width(self) -> int:
        """The longest row's length."""
        return max(self.lengths)

    def close(self) -> None:
        """All rows are known."""
        if min(self.lengths) != self.width:
            skipped = mx.array([self.width - length for length in self.lengths])
            index = mx.maximum(mx.arange(self.width) - skipped[:, None], 0)
            self.shift = index[:, None, :, None]

    def aligned(self, buffer: mx.array) -> mx.array:
        """The rows out of a plain cache's buffer, (rows, heads, width, size); before a short row there is anything."""
        if self.rows != list(range(buffer.shape[0])):
            buffer = mx.take(buffer, mx.array(self.rows), axis=0)
        buffer = buffer[..., : self.width, :]
        return buffer if self.shift is None else mx.take_along_axis(buffer, self.shift, axis=2)

    def runs(self) -> list[tuple[int, int, int]]:
        """Rows that lie side by side in both: first of the block, first place, how many."""
        found: list[tuple[int, int, int]] = []
        for index, place in enumerate(self.places):
            if found and found[-1][1] + found[-1][2] == place:
                first, start, count = found[-1]
                found[-1] = first, start, count + 1
            else:
                found.append((index, place, 1))
        return found

    def write(self, rows: mx.array, buffer: mx.array, start: int) -> None:
        """Put aligned rows, or a part of them all, into their places in a buffer, from ``start`` on."""
        stop = start + rows.shape[2]
        for first, place, count in self.runs():
            part = rows if count == rows.shape[0] else rows[first : first + count]
            buffer[place : place + count, :, start:stop] = part


def blocks_of(sources: Sequence[Source], places: Sequence[int]) -> list[Block]:
    """Newcomers by the caches they come from."""
    blocks: dict[int, Block] = {}
    for source, place in zip(sources, places, strict=True):
        block = blocks.setdefault(id(source.caches), Block(source.caches))
        block.rows.append(source.index)
        block.lengths.append(source.length)
        block.places.append(place)
    for block in blocks.values():
        block.close()
    return list(blocks.values())


class KVRows(KVCache):  # type: ignore[misc]
    """(rows, heads, places, head size) of keys and of values; None until the first token.

    Attributes:
        latest: what ``update_and_fetch`` returned last.
    """

    def __init__(self, layout: Layout) -> None:
        self.keys: mx.array | None = None
        self.values: mx.array | None = None
        self.layout = layout
        self.latest: tuple[Any, Any] | None = None
        self._end = layout.end

    @property
    def offset(self) -> int | mx.array:
        """See ``Layout.offset``."""
        return self.layout.offset(self._end)

    def size(self) -> int:
        """Places in use."""
        return self._end

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append one step's keys and values; return all."""
        num_tokens = keys.shape[2]
        start, self._end = self._end, self._end + num_tokens
        length = self._end if num_tokens == 1 else view_length(self._end, num_tokens)
        if self.layout.is_aligned:  # what ``_write`` does, but this is called for every layer of every step
            self.keys = self._reserve(self.keys, keys, start, length)
            self.values = self._reserve(self.values, values, start, length)
            self.keys[..., start : self._end, :] = keys
            self.values[..., start : self._end, :] = values
        else:
            self.keys = self._write(self.keys, keys, start, length)
            self.values = self._write(self.values, values, start, length)
        self.latest = self.keys[..., :length, :], self.values[..., :length, :]
        return self.latest

    @property
    def state(self) -> tuple[mx.array | None, mx.array | None, int]:
        """As mlx_lm's."""
        return self.keys, self.values, self._end

    def make_mask(self, num_tokens: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """As mlx_lm's, and None whenever one row alone would have none."""
        end = self._end + num_tokens
        if self.layout.is_even and (num_tokens == 1 or view_length(end, num_tokens) == end):
            return super().make_mask(num_tokens, return_array=return_array, window_size=window_size)
        return self.layout.mask(self._end, num_tokens, window_size)

    def keys_and_values(self) -> tuple[Any, Any] | None:
        """What ``update_and_fetch`` returned last; layers that share one layer's keys and values ask for it."""
        return self.latest

    def retract(self) -> None:
        """The layout has been retracted: what lies behind its end does not count."""
        self._end = self.layout.end
        self.latest = None

    def align(self) -> None:
        """Let all rows end together; the layout is still to be told."""
        self.latest = None
        if not self.empty():
            sources = self.layout.aligned_sources(self._capacity(self._end))
            set_buffers(self, [mx.take_along_axis(buffer, sources, axis=2) for buffer in buffers(self)])

    def place(self, newcomers: Sequence[tuple[Any, Block]]) -> None:
        """Write rows of this layer's plain caches into their places, new ones at the end among them.

        The layout has been changed already, but the buffers have not.
        """
        end, self._end = self._end, self.layout.end
        self.latest = None
        filled = [
            (self._arrays(item), block) for item, block in newcomers if not item.empty() and block.width
        ]
        if filled:
            old: Sequence[mx.array | None] = buffers(self) or [None] * len(filled[0][0])
            rows = zip(*(arrays for arrays, _ in filled), strict=True)
            blocks = [block for _, block in filled]
            placed = (
                self._place(buffer, arrays, blocks, end) for buffer, arrays in zip(old, rows, strict=True)
            )
            set_buffers(self, list(placed))
        elif not self.empty():
            set_buffers(self, [self._make_room(buffer, buffer, end) for buffer in buffers(self)])

    def take(self, places: Sequence[int], trim: int) -> None:
        """Keep these places, in this order, without the first ``trim`` of each row."""
        end, self._end = self._end, self.layout.end
        self.latest = None
        if not self.empty():
            index = mx.array(list(places))
            set_buffers(self, [mx.take(buffer[..., trim:end, :], index, axis=0) for buffer in buffers(self)])

    def row(self, place: int) -> Any:
        """A row as a plain cache, to be read before the next step; it shares the buffers' memory."""
        row = self._plain()
        if not self.empty():
            row.offset = self.layout.length(place)
            start = self.layout.padding[place]
            parts = [buffer[place : place + 1, :, start : start + row.offset] for buffer in buffers(self)]
            set_buffers(row, parts)
        return row

    def _plain(self) -> Any:
        return KVCache()

    def _arrays(self, item: Any) -> list[mx.array]:
        """What a plain cache of this layer's kind holds, (rows, heads, tokens or more, size) each."""
        return buffers(item)

    def _write(self, buffer: mx.array | None, new: mx.array, start: int, length: int) -> mx.array:
        """A buffer of at least ``length`` places with new tokens behind each row's last one, the longest's at ``start``."""
        buffer = self._reserve(buffer, new, start, length)
        num_tokens = new.shape[2]
        if not self.layout.is_aligned:
            return mx.put_along_axis(buffer, self.layout.places(start, num_tokens), new, axis=2)
        buffer[..., start : start + num_tokens, :] = new
        return buffer

    def _place(
        self, buffer: mx.array | None, sources: Sequence[mx.array], blocks: Sequence[Block], end: int
    ) -> mx.array:
        layout = self.layout
        if buffer is None and len(blocks) == 1:
            source, block = sources[0], blocks[0]
            if block.places == list(range(len(layout.padding))) and block.width == layout.end:
                return self._reserve(block.aligned(source), source, layout.end, layout.end + 1)
        buffer = self._make_room(buffer, sources[0], end)
        for source, block in zip(sources, blocks, strict=True):
            block.write(block.aligned(source), buffer, layout.end - block.width)
        return buffer

    def _make_room(self, buffer: mx.array | None, like: mx.array, end: int) -> mx.array:
        """A buffer with a place for each row of the layout, ``buffer`` (filled up to ``end``) right-aligned in it."""
        layout = self.layout
        if buffer is None:
            return self._new_buffer(like, self._capacity(layout.end))
        if layout.end > end:  # a newcomer is the longest: all others move
            rows, heads, _, size = buffer.shape
            moved = mx.zeros((rows, heads, self._capacity(layout.end), size), buffer.dtype)
            moved[..., layout.end - end : layout.end, :] = buffer[..., :end, :]
            buffer = moved
        return self._with_rows(buffer)

    def _new_buffer(self, like: mx.array, num_places: int) -> mx.array:
        """So many empty places for each row of the layout."""
        _, heads, _, size = like.shape
        return mx.zeros((len(self.layout.padding), heads, num_places, size), like.dtype)

    def _with_rows(self, buffer: mx.array) -> mx.array:
        """A buffer with at least a row for each of the layout."""
        num_rows, heads, num_places, size = buffer.shape
        if (num_new := len(self.layout.padding) - num_rows) <= 0:
            return buffer
        return mx.concatenate([buffer, mx.zeros((num_new, heads, num_places, size), buffer.dtype)], axis=0)

    def _reserve(self, buffer: mx.array | None, like: mx.array, start: int, end: int) -> mx.array:
        """A buffer of at least ``end`` places, ``buffer`` (filled up to ``start``) at its beginning."""
        if buffer is not None and buffer.shape[2] >= end:
            return buffer
        rows, heads, _, size = like.shape if buffer is None else buffer.shape
        if buffer is None:
            return mx.zeros((rows, heads, self._capacity(end), size), like.dtype)
        room = mx.zeros((rows, heads, self._capacity(end) - start, size), buffer.dtype)
        return mx.concatenate([buffer[..., :start, :], room], axis=2)

    def _capacity(self, end: int) -> int:
        return (end // _GROWTH + 1) * _GROWTH + _ODD
