"""Where rows that are decoded together lie in the buffers of keys and values: right-aligned, padding before them.

After a pass over drafted tokens rows keep different numbers of them. Moving all that a row has would cost more than
many passes (64 MB of keys: 40 ms on a CPU, where writing four tokens a row takes 0.05), so rows may then end before the
others: each one's next tokens are written where it ends. Rows that come or go are aligned first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx

from mlxbridge.host.engine.shapes import view_length


class Ring(NamedTuple):
    """Buffers that keep a row's last tokens: what lies at place p of a ``Layout`` is at p + shift, modulo their length.

    Attributes:
        num_places: its length.
        num_sinks: places behind it, for each row's first tokens.
    """

    num_places: int
    num_sinks: int = 0
    shift: int = 0

    def moved(self, by: int) -> Ring:
        """The ring in which tokens lie as they do, once the layout counts their places from ``by`` further on."""
        return self._replace(shift=(self.shift + by) % self.num_places)

    def place(self, place: int) -> int:
        """Where it is in the ring."""
        return (place + self.shift) % self.num_places

    def places(self, start: int, end: int) -> mx.array:
        """Where these are in the ring, int32 (end - start,)."""
        return (mx.arange(start, end) + self.shift) % self.num_places


class Layout:
    """Row ``i`` lies from ``padding[i]`` to ``end - lags[i]``.

    All layers share one, so that offsets and masks are computed once a step. While all rows are of one length there
    is neither a mask nor an array of offsets, as for one row alone.
    """

    def __init__(self) -> None:
        self.end = 0
        self.padding: list[int] = []
        self.lags: list[int] = []
        self._begin = mx.array([], dtype=mx.int32)
        self._lags = mx.array([], dtype=mx.int32)
        self._offsets: dict[int, mx.array] = {}
        self._places: dict[tuple[int, int], mx.array] = {}
        self._sources: dict[int, mx.array] = {}
        self._ends: dict[int, mx.array] = {}
        self._masks: dict[tuple[int, int, int | None], mx.array] = {}
        self._ring_masks: dict[tuple[int, Ring, int | None], mx.array | None] = {}
        self._beginning_at: dict[int, mx.array | None] = {}

    def change(self, end: int, padding: list[int]) -> None:
        """Rows have come or gone; all of them end at ``end``."""
        self.end, self.padding, self.lags = end, padding, [0] * len(padding)
        self._begin = mx.array(padding, dtype=mx.int32)
        self.is_even, self.is_aligned = not any(padding), True
        self._forget()

    def advance(self, num_tokens: int) -> None:
        """Every row has grown."""
        self.end += num_tokens
        self._forget()

    def retract(self, num_dropped: Sequence[int | None]) -> None:
        """Of each row so many of its last tokens do not count; None: nobody asks any more where it ends."""
        lags = [None if num is None else lag + num for lag, num in zip(self.lags, num_dropped, strict=True)]
        least = min(lag for lag in lags if lag is not None)
        self.end -= least
        self.lags = [0 if lag is None else lag - least for lag in lags]
        self.is_aligned = not any(self.lags)
        self.is_even = self.is_aligned and not any(self.padding)
        self._lags = mx.array(self.lags, dtype=mx.int32)
        self._forget()

    def _forget(self) -> None:
        self._offsets.clear()
        self._places.clear()
        self._sources.clear()
        self._ends.clear()
        self._masks.clear()
        self._ring_masks.clear()
        self._beginning_at.clear()

    is_even = True
    """Whether no row has padding, and all end together."""

    is_aligned = True
    """Whether all end together."""

    @property
    def begin(self) -> mx.array:
        """int32 (rows,): each row's first place."""
        return self._begin

    def length(self, place: int) -> int:
        """A row's tokens."""
        return self.end - self.lags[place] - self.padding[place]

    def end_array(self, end: int) -> mx.array:
        """int32 (1,): ``end`` on the device."""
        if end not in self._ends:
            self._ends[end] = mx.array([end], dtype=mx.int32)
        return self._ends[end]

    def offset(self, end: int) -> int | mx.array:
        """The rows' lengths when the buffers are filled up to ``end``: a number if all are equal, else int32 (rows,)."""
        if self.is_even:
            return end
        if end not in self._offsets:
            self._offsets[end] = (end if self.is_aligned else end - self._lags) - self._begin
        return self._offsets[end]

    def places(self, end: int, num_tokens: int) -> mx.array:
        """int32 (rows, 1, num_tokens, 1): where each row's next tokens go when the longest ends at ``end``."""
        asked = (end, num_tokens)
        if asked not in self._places:
            places = (end - self._lags)[:, None] + mx.arange(num_tokens)
            self._places[asked] = places[:, None, :, None]
        return self._places[asked]

    def aligned_sources(self, num_places: int) -> mx.array:
        """int32 (rows, 1, num_places, 1): where what belongs into each place is now, if all rows are to end together."""
        if num_places not in self._sources:
            index = mx.clip(mx.arange(num_places) - self._lags[:, None], 0, self.end - 1)
            self._sources[num_places] = index[:, None, :, None]
        return self._sources[num_places]

    def mask(self, end: int, num_tokens: int, window: int | None) -> mx.array:
        """bool (rows, 1, num_tokens, view length): which places the next tokens may look at, see ``view_length``."""
        asked = (end, num_tokens, window)
        if asked not in self._masks:
            places = mx.arange(view_length(end + num_tokens, num_tokens))
            mask = places >= self._begin[:, None, None, None]
            if num_tokens > 1 or window is not None or not self.is_aligned:
                own = mx.arange(end, end + num_tokens)[:, None]
                if not self.is_aligned:
                    own = own - self._lags[:, None, None, None]
                mask = mask & (places <= own)
                if window is not None:
                    mask = mask & (own < places + window)
            self._masks[asked] = mask
        return self._masks[asked]

    def ring_mask(self, end: int, ring: Ring, window: int | None) -> mx.array | None:
        """Which places of full buffers one token after ``end`` may look at, the sinks' places last.

        Returns:
            bool (rows, 1, 1, places and sinks); None if all.
        """
        asked = (end, ring, window)
        if asked not in self._ring_masks:
            is_full = max(self.padding) + ring.num_places + ring.num_sinks <= end + 1
            self._ring_masks[asked] = None if is_full and window is None else self._ring_mask(*asked)
        return self._ring_masks[asked]

    def _ring_mask(self, end: int, ring: Ring, window: int | None) -> mx.array:
        begin = self._begin[:, None]
        latest = end - (end + ring.shift - mx.arange(ring.num_places)) % ring.num_places
        firsts = begin + mx.arange(ring.num_sinks)
        # A sink is seen behind the ring once it is not in the ring any more.
        tokens = mx.concatenate(
            [mx.broadcast_to(latest, (len(self.padding), ring.num_places)), firsts], axis=1
        )
        mask = mx.concatenate([latest >= begin, firsts <= end - ring.num_places], axis=1)
        if window is not None:
            mask = mask & (end < tokens + window)
        return mask[:, None, None, :]

    def beginning_at(self, place: int) -> mx.array | None:
        """bool (rows, 1, 1, 1): which rows begin there; None if none does."""
        if place not in self._beginning_at:
            is_any = place in self.padding
            self._beginning_at[place] = (self._begin == place)[:, None, None, None] if is_any else None
        return self._beginning_at[place]

    def is_padding_mask(self, mask: object, end: int) -> bool:
        """Whether a mask for one token after ``end`` hides padding and nothing else."""
        if self.is_even or not self.is_aligned:
            return self.is_even and mask is None
        return mask is not None and mask is self._masks.get((end, 1, None))
