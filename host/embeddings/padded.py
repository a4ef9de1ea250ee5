"""Inputs side by side, padded to one length, and what of them attention may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

Mask = mx.array | str | None
"""What ``mx.fast.scaled_dot_product_attention`` takes: true where a key is seen, "causal", or None for everywhere."""


@dataclass(frozen=True, slots=True, eq=False)
class Padded:
    """A batch of inputs, padded on the right: a token's position is its column in every row.

    Attributes:
        token_ids: ``[rows, width]`` int32; padding is 0, a token like any other but for the masks.
        type_ids: the same for the segments of pairs, 0 or 1.
        lengths: ``[rows]`` int32, tokens of each row, at least 1.
        is_ragged: whether any row has padding.
    """

    token_ids: mx.array
    type_ids: mx.array
    lengths: mx.array
    is_ragged: bool

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.token_ids.shape[1])

    def is_token(self) -> mx.array:
        """``[rows, width]``, true where there is no padding."""
        return mx.arange(self.width)[None] < self.lengths[:, None]

    def causal_mask(self) -> Mask:
        """Every token sees itself and those before it, so never the padding."""
        return "causal"

    def bidirectional_mask(self) -> Mask:
        """Every token sees all tokens of its row."""
        return self.is_token()[:, None, None] if self.is_ragged else None

    def window_mask(self, reach: int, *, is_causal: bool) -> Mask:
        """Every token sees those at most ``reach`` places away, if causal only before it.

        Padding sees itself: a row of a mask that hides everything makes attention divide 0 by 0, and NaN in padding
        comes back to the tokens in the next layer, as 0 times NaN.
        """
        if self.width <= reach + 1:
            return self.causal_mask() if is_causal else self.bidirectional_mask()
        places = mx.arange(self.width)
        ahead = places[None] - places[:, None]  # of a query in its row, a key in its column
        near = (ahead <= 0) & (ahead >= -reach) if is_causal else mx.abs(ahead) <= reach
        if is_causal or not self.is_ragged:
            return near
        return near & (self.is_token()[:, None, None] | (ahead == 0))


def pad(token_ids: Sequence[Sequence[int]], type_ids: Sequence[Sequence[int]] | None = None) -> Padded:
    """Put inputs side by side.

    Args:
        token_ids: of each input, not empty.
        type_ids: as many for each input; None: all 0.
    """
    lengths = np.array([len(row) for row in token_ids], np.int32)
    return Padded(
        token_ids=_filled(token_ids, lengths),
        type_ids=_filled(type_ids or [[]] * len(lengths), lengths),
        lengths=mx.array(lengths),
        is_ragged=bool((lengths != lengths[0]).any()),
    )


def _filled(rows: Sequence[Sequence[int]], lengths: np.ndarray[tuple[int], np.dtype[np.int32]]) -> mx.array:
    table = np.zeros((len(lengths), int(lengths.max())), np.int32)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return mx.array(table)
