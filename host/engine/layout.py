"""Where rows that are decoded together lie in the buffers of keys and values: right-aligned, padding before them."""

from __future__ import annotations

import mlx.core as mx


class Layout:
    """Row ``i`` lies from ``padding[i]`` to ``end``.

    All layers share one, so that offsets and masks are computed once a step. While all rows are of one length there
    is neither a mask nor an array of offsets, as for one row alone.
    """

    def __init__(self) -> None:
        self.end = 0
        self.padding: list[int] = []
        self._begin = mx.array([], dtype=mx.int32)
        self._offsets: dict[int, mx.array] = {}
        self._ends: dict[int, mx.array] = {}
        self._masks: dict[tuple[int, int, int | None], mx.array] = {}

    def change(self, end: int, padding: list[int]) -> None:
        """Rows have come or gone."""
        self.end, self.padding = end, padding
        self._begin = mx.array(padding, dtype=mx.int32)
        self.is_even = not any(padding)
        self._forget()

    def advance(self, num_tokens: int) -> None:
        """Every row has grown."""
        self.end += num_tokens
        self._forget()

    def _forget(self) -> None:
        self._offsets.clear()
        self._ends.clear()
        self._masks.clear()

    is_even = True
    """Whether no row has padding."""

    @property
    def begin(self) -> mx.array:
        """int32 (rows,): each row's first place."""
        return self._begin

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
            self._offsets[end] = end - self._begin
        return self._offsets[end]

    def mask(self, end: int, num_tokens: int, window: int | None) -> mx.array:
        """bool (rows, 1, num_tokens, end + num_tokens): which places the next tokens may look at."""
        asked = (end, num_tokens, window)
        if asked not in self._masks:
            places = mx.arange(end + num_tokens)
            mask = places >= self._begin[:, None, None, None]
            if num_tokens > 1 or window is not None:
                own = mx.arange(end, end + num_tokens)[:, None]
                mask = mask & (places <= own)
                if window is not None:
                    mask = mask & (own < places + window)
            self._masks[asked] = mask
        return self._masks[asked]

    def is_padding_mask(self, mask: object, end: int) -> bool:
        """Whether a mask for one token after ``end`` hides padding and nothing else."""
        return mask is None if self.is_even else mask is not None and mask is self._masks.get((end, 1, None))
