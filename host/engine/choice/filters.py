"""Which tokens may be drawn: top_p, min_p, xtc and top_k, in this order, on the probabilities before the temperature.

They mean what mlx_lm's do; mlx_lm leaves open which of equally likely tokens top_k drops, here it is the later ones.
There are three ways to the same answer but for rounding, and which one a row takes depends on its own settings
alone, else a seed's text would depend on what runs beside it:

- ``WIDE``: top_p and top_k from one sort of all logits, if they are in use;
- ``NARROW``: top_k is small, so that only the likeliest tokens are looked at;
- ``XTC``: as ``WIDE``, but top_k comes after xtc and sorts what that left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

import mlx.core as mx

from mlxbridge.host.engine.settings import Settings

NARROW_TOP_K = 64

_MAX_TOP_K = 2**31 - 1


class Way(Enum):
    """How a row's tokens are filtered."""

    WIDE = "wide"
    NARROW = "narrow"
    XTC = "xtc"


def way_of(row: Settings) -> Way | None:
    """The way a row takes; None if it gets the same token on any, being greedy."""
    if row.temperature == 0:
        return None
    if row.xtc_probability:
        return Way.XTC
    return Way.NARROW if 0 < row.top_k <= NARROW_TOP_K else Way.WIDE


class Filters:
    """The filters of a fixed set of rows; what no row uses is not computed."""

    def __init__(self, rows: Sequence[Settings], way: Way) -> None:
        """Take rows that go this way, and greedy ones."""
        drawing = [row for row in rows if row.temperature > 0]
        # Off is a value that keeps everything, whatever rounding does: more than all mass, more than all tokens.
        self._top_p = self._log_min_p = self._top_k = None
        if any(row.top_p < 1 for row in drawing):
            self._top_p = column([row.top_p if row.top_p < 1 else math.inf for row in rows])
        if any(row.min_p for row in drawing):
            self._log_min_p = column([math.log(row.min_p) if row.min_p else -math.inf for row in rows])
        if any(row.top_k for row in drawing):
            top_k = [min(row.top_k or _MAX_TOP_K, _MAX_TOP_K) for row in rows]
            self._top_k = mx.array(top_k, dtype=mx.int32)[:, None]
        self._xtc = _Xtc(rows) if way is Way.XTC else None

    @property
    def needs_coins(self) -> bool:
        """Whether ``kept`` takes coins."""
        return self._xtc is not None

    @property
    def needs_mass(self) -> bool:
        """Whether ``kept`` makes use of the mass of all tokens."""
        return self._top_p is not None

    def kept(
        self,
        logits: mx.array,
        best: mx.array,
        *,
        mass: mx.array | None = None,
        coins: mx.array | None = None,
    ) -> mx.array | None:
        """Which tokens may be drawn.

        Args:
            logits: float32 array (rows, tokens), of all tokens or of the likeliest, in the order of the vocabulary.
            best: float32 array (rows, 1), the greatest logit.
            mass: float32 array (rows, 1), the sum of all tokens' weights, that of the greatest being 1; None: the
                logits are those of all.
            coins: float32 array (rows, 1), a number in [0, 1) that decides whether xtc takes place.

        Returns:
            bool array like ``logits``; None if all may.
        """
        kept = None
        top_k = self._top_k if self._xtc is None else None
        if self._top_p is not None or top_k is not None:
            least = _least(logits, best, self._top_p, top_k, mass)
            kept = logits >= least if top_k is None else _no_more_than(top_k, logits, least)
        if self._log_min_p is not None:
            likely = logits >= best + self._log_min_p
            kept = likely if kept is None else kept & likely
        if self._xtc is None:
            return kept
        assert coins is not None
        kept = self._xtc.kept(logits, best, kept, coins)
        if self._top_k is not None:
            left = mx.where(kept, logits, -math.inf)
            least = _least(left, best, None, self._top_k, None)
            kept = kept & _no_more_than(self._top_k, left, least)
        return kept


class _Xtc:
    """Takes all tokens away that are likelier than a threshold, but for the least likely of them.

    As mlx_lm's ``apply_xtc``, on the probabilities of what the filters before have left.
    """

    def __init__(self, rows: Sequence[Settings]) -> None:
        self._probability = column([row.xtc_probability for row in rows])
        self._threshold = column([row.xtc_threshold for row in rows])
        spared = [(place, token) for place, row in enumerate(rows) for token in row.xtc_spared]
        self._places = mx.array([place for place, _ in spared], dtype=mx.int32)
        self._tokens = mx.array([token for _, token in spared], dtype=mx.int32)

    def kept(self, logits: mx.array, best: mx.array, kept: mx.array | None, coins: mx.array) -> mx.array:
        weights = mx.exp(logits - best)
        if kept is not None:
            weights = weights * kept
        shares = weights / weights.sum(axis=-1, keepdims=True)
        above = mx.where(shares > self._threshold, shares, math.inf)
        taken = (shares > above.min(axis=-1, keepdims=True)) & (coins < self._probability)
        if self._places.size:
            taken[self._places, self._tokens] = False
        return ~taken if kept is None else kept & ~taken


def column(values: list[float]) -> mx.array:
    """float32 array (rows, 1)."""
    return mx.array(values, dtype=mx.float32)[:, None]


def _least(
    logits: mx.array,
    best: mx.array,
    top_p: mx.array | None,
    top_k: mx.array | None,
    mass: mx.array | None,
) -> mx.array:
    """The least logit that stays."""
    ordered = mx.sort(logits, axis=-1)
    place = mx.zeros((ordered.shape[0], 1), dtype=mx.int32)
    if top_p is not None:
        weights = mx.exp(ordered - best)
        above = mx.cumsum(weights, axis=-1, reverse=True, inclusive=False)
        all_mass = above[:, :1] + weights[:, :1] if mass is None else mass
        dropped = (above >= top_p * all_mass).sum(axis=-1, keepdims=True).astype(mx.int32)
        place = mx.minimum(
            dropped, ordered.shape[1] - 1
        )  # should top_p round to nothing, the likeliest stays
    if top_k is not None:
        place = mx.maximum(place, ordered.shape[1] - top_k)
    return mx.take_along_axis(ordered, place, axis=-1)


def _no_more_than(top_k: mx.array, logits: mx.array, least: mx.array) -> mx.array:
    """Of several tokens at the border, only so many as there is room for."""
    above, border = logits > least, logits == least
    room = top_k - above.sum(axis=-1, keepdims=True)
    return above | (border & (mx.cumsum(border.astype(mx.int32), axis=-1) <= room))
