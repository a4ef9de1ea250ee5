"""Keys and values of each row's last tokens, and maybe of its first ones, of rows that are decoded together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.caches.caches import buffers, in_time, set_buffers
from mlxbridge.host.engine.caches.kv_rows import Block, KVRows
from mlxbridge.host.engine.caches.layout import Layout, Ring
from mlxbridge.host.engine.caches.window_cache import WindowCache


class WindowRows(KVRows):
    """As ``KVRows`` while no row has more tokens than the ring has places; from then on the buffers are a ring.

    All rows write their next token to the same place, that of the longest rows' oldest one. When a row's first token
    is about to be overwritten, its first ones, the attention sinks, are copied behind the ring, and are seen from there
    as they go. Otherwise nothing is copied while a row grows, and a newcomer costs one write of its own row.
    """

    def __init__(self, layout: Layout, *, max_size: int, num_sinks: int) -> None:
        """Begin empty.

        Args:
            layout: where the rows lie, as if there were no window.
            max_size: tokens that a row sees.
            num_sinks: how many of them are its first ones; at most half.
        """
        super().__init__(layout)
        self.max_size = max_size
        self._ring = Ring(max_size - num_sinks, num_sinks)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append one token's keys and values to every row; return those that any of them sees."""
        assert keys.shape[2] == 1, "a row with a window grows by one token at a time"
        start, self._end = self._end, self._end + 1
        self.keys = self._append(self.keys, keys, start)
        self.values = self._append(self.values, values, start)
        if self._end > self._ring.num_places:
            self.latest = self.keys, self.values
        else:
            self.latest = self.keys[..., : self._end, :], self.values[..., : self._end, :]
        return self.latest

    def make_mask(self, num_tokens: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """Which of the places that ``update_and_fetch`` will return the next token sees; None if all."""
        ring = self._ring
        if window_size is not None and (
            self._end < window_size or (not ring.num_sinks and window_size >= ring.num_places)
        ):
            window_size = None
        if self._end >= ring.num_places:
            return self.layout.ring_mask(self._end, ring, window_size)
        if self.layout.is_even and window_size is None:
            return None
        return self.layout.mask(self._end, num_tokens, window_size)

    def place(self, newcomers: Sequence[tuple[Any, Block]]) -> None:
        """As ``KVRows.place``; rows of one block are of one length."""
        if self.layout.end > self._ring.num_places:
            self._ring = self._ring.moved(self._end - self.layout.end)
        else:  # there was no ring, or nobody of it stays
            self._ring = self._ring.moved(-self._ring.shift)
        super().place(newcomers)

    def take(self, places: Sequence[int], trim: int) -> None:
        """As ``KVRows.take``."""
        ring, end = self._ring, self._end
        if end <= ring.num_places:
            super().take(places, trim)
            return
        self._end, self.latest = self.layout.end, None
        rows = mx.array(list(places))
        taken = [mx.take(buffer, rows, axis=0) for buffer in buffers(self)]
        if self._end > ring.num_places:
            self._ring = ring.moved(trim)
        else:
            left = ring.places(trim, end)
            taken = [mx.take(buffer, left, axis=2) for buffer in taken]
            self._ring = ring.moved(-ring.shift)
        set_buffers(self, taken)

    def row(self, place: int) -> WindowCache:
        """As ``KVRows.row``, but copied."""
        ring = self._ring
        row = WindowCache(self.max_size, ring.num_sinks)
        if not self.empty():
            length = self._end - self.layout.padding[place]
            num_sinks = max(0, min(length - ring.num_places, ring.num_sinks))
            sinks = mx.arange(ring.num_places, ring.num_places + num_sinks)
            last = ring.places(self._end - min(length, ring.num_places), self._end)
            places = mx.concatenate([sinks, last])
            set_buffers(row, [mx.take(buffer[place : place + 1], places, axis=2) for buffer in buffers(self)])
            row.offset, row._idx = length, places.size
        return row

    def _append(self, buffer: mx.array | None, new: mx.array, start: int) -> mx.array:
        ring = self._ring
        if self._end <= ring.num_places:
            buffer = self._reserve(buffer, new, start, self._end)
            buffer[..., start : self._end, :] = new
            return buffer
        buffer = self._reserve(buffer, new, min(start, ring.num_places), self.max_size)
        oldest = start - ring.num_places
        if ring.num_sinks and (leaving := self.layout.beginning_at(oldest)) is not None:
            firsts = mx.take(buffer, ring.places(oldest, oldest + ring.num_sinks), axis=2)
            sinks = buffer[..., ring.num_places :, :]
            buffer[..., ring.num_places :, :] = mx.where(leaving, firsts, sinks)
        place = ring.place(start)
        buffer[..., place : place + 1, :] = new
        return buffer

    def _arrays(self, item: Any) -> list[mx.array]:
        return in_time(item)

    def _place(
        self, buffer: mx.array | None, sources: Sequence[mx.array], blocks: Sequence[Block], end: int
    ) -> mx.array:
        ring, layout = self._ring, self.layout
        if layout.end <= ring.num_places:
            return super()._place(buffer, sources, blocks, end)
        buffer = self._make_room(buffer, sources[0], end)
        for source, block in zip(sources, blocks, strict=True):
            rows = block.aligned(source)
            if block.width > ring.num_places:
                block.write(rows[..., : ring.num_sinks, :], buffer, ring.num_places)
            latest = rows[..., max(0, rows.shape[2] - ring.num_places) :, :]
            start = ring.place(layout.end - latest.shape[2])
            num_before_wrap = min(latest.shape[2], ring.num_places - start)
            block.write(latest[..., :num_before_wrap, :], buffer, start)
            if num_before_wrap < latest.shape[2]:
                block.write(latest[..., num_before_wrap:, :], buffer, 0)
        return buffer

    def _make_room(self, buffer: mx.array | None, like: mx.array, end: int) -> mx.array:
        num_places = self._ring.num_places
        if self.layout.end <= num_places:
            return super()._make_room(buffer, like, end)
        if buffer is None:
            return self._new_buffer(like, self.max_size)
        return self._with_rows(self._reserve(buffer, like, min(end, num_places), self.max_size))

    def _capacity(self, end: int) -> int:
        return min(super()._capacity(end), self.max_size)
