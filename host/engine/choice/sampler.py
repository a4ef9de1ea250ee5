"""The choice of all rows' next tokens in one call, the same for a row alone and in any batch.

A row draws with numbers that depend on its seed and on the token's position in the answer alone: MLX's global
random state is never read. The number picks a place in the cumulated weights of the tokens that the filters keep,
in the order of the vocabulary.

Nothing here is compiled: fused kernels save less than a millisecond a token, and building them takes a CUDA machine
the better part of a minute, amid an answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import mlx.core as mx

from mlxbridge.host.engine.choice.filters import NARROW_TOP_K, Filters, Way, column, way_of
from mlxbridge.host.engine.choice.likeliest import likeliest
from mlxbridge.host.engine.settings import Settings

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_GOLDEN_32 = 0x9E3779B9


class Sampler:
    """Draws for a fixed set of rows; made anew when rows come or go."""

    def __init__(self, rows: Sequence[Settings], positions: Sequence[int]) -> None:
        """Take the rows' settings, and the position in its answer of the token that each draws next."""
        self._is_greedy = all(row.temperature == 0 for row in rows)
        if self._is_greedy:
            return
        ways = [way_of(row) for row in rows]
        used = [way for way in Way if way in ways]
        places = {way: [place for place, own in enumerate(ways) if (own or used[0]) is way] for way in used}
        self._groups = [
            (
                mx.array(places[way], dtype=mx.int32) if len(used) > 1 else None,
                _Group([rows[i] for i in places[way]], [positions[i] for i in places[way]], way),
            )
            for way in used
        ]
        in_groups = [place for way in used for place in places[way]]
        self._order = mx.array([in_groups.index(place) for place in range(len(rows))], dtype=mx.int32)

    def draw(self, logits: mx.array) -> mx.array:
        """Choose every row's next token, and move on by one position.

        Args:
            logits: float array (rows, vocabulary size), any offset.

        Returns:
            uint32 array (rows,), not evaluated.
        """
        if self._is_greedy:
            return mx.argmax(logits, axis=-1)
        drawn = [group.draw(logits if at is None else logits[at]) for at, group in self._groups]
        return drawn[0] if len(drawn) == 1 else mx.concatenate(drawn)[self._order]


class _Group:
    """Rows whose tokens are filtered in the same way."""

    def __init__(self, rows: Sequence[Settings], positions: Sequence[int], way: Way) -> None:
        self._filters = Filters(rows, way)
        self._is_narrow = way is Way.NARROW
        self._is_greedy = None
        if any(row.temperature == 0 for row in rows):
            self._is_greedy = mx.array([row.temperature == 0 for row in rows])
        self._scale = None
        if any(row.temperature not in (0, 1) for row in rows):
            self._scale = column([1 / row.temperature if row.temperature else 1.0 for row in rows])
        self._seeds = mx.array([seed_words(row.seed) for row in rows], dtype=mx.uint32)
        self._positions = mx.array(list(positions), dtype=mx.uint32)

    def draw(self, logits: mx.array) -> mx.array:
        if not self._is_narrow:
            return self._draw(logits.astype(mx.float32), mass_of=None)
        # What is not among the likeliest takes part in no more than their mass.
        ids = mx.sort(likeliest(logits, min(NARROW_TOP_K, logits.shape[1])), axis=-1)
        mass_of = logits if self._filters.needs_mass else None
        places = self._draw(mx.take_along_axis(logits, ids, axis=-1).astype(mx.float32), mass_of)
        return mx.take_along_axis(ids, places[:, None], axis=-1)[:, 0].astype(mx.uint32)

    def _draw(self, logits: mx.array, mass_of: mx.array | None) -> mx.array:
        best = mx.max(logits, axis=-1, keepdims=True)
        mass = coins = None
        if mass_of is not None:
            mass = mx.exp(mx.logsumexp(mass_of.astype(mx.float32), axis=-1, keepdims=True) - best)
        if self._filters.needs_coins:
            coins = uniforms(self._seeds, self._positions, number=1)
        kept = self._filters.kept(logits, best, mass=mass, coins=coins)
        if coins is not None and kept is not None:
            # The likeliest may have been taken, and beside it what is left would weigh nothing.
            logits = mx.where(kept, logits, -math.inf)
            best = mx.max(logits, axis=-1, keepdims=True)
        weights = mx.exp(logits - best if self._scale is None else (logits - best) * self._scale)
        tokens = _pick(weights, kept, uniforms(self._seeds, self._positions))
        self._positions = self._positions + 1
        if self._is_greedy is None:
            return tokens
        return mx.where(self._is_greedy, mx.argmax(logits, axis=-1), tokens)


def seed_words(seed: int) -> tuple[int, int]:
    """64 well mixed bits of a seed, as two 32-bit words."""
    mixed = _mix(seed & _MASK)
    return mixed >> 32, mixed & 0xFFFFFFFF


def uniforms(seeds: mx.array, positions: mx.array, *, number: int = 0) -> mx.array:
    """One number in [0, 1) a row.

    Args:
        seeds: uint32 array (rows, 2), see ``seed_words``.
        positions: uint32 array (rows,), of the tokens to draw.
        number: which one of a position's.

    Returns:
        float32 array (rows, 1).
    """
    first = seeds[:, 0] + number * _GOLDEN_32 if number else seeds[:, 0]
    keys = mx.stack([first, seeds[:, 1] + positions * _GOLDEN_32], axis=1)
    return mx.vmap(lambda key: mx.random.uniform(shape=(1,), key=key))(keys)


def _pick(weights: mx.array, kept: mx.array | None, uniform: mx.array) -> mx.array:
    if kept is not None:
        weights = weights * kept
    cumulated = mx.cumsum(weights, axis=-1)
    # A parallel scan may round so that a token without weight seems to reach the place: it must also be kept, and not
    # be an impossible one. Should rounding leave none, the place was at the very end.
    reached = cumulated > uniform * cumulated[:, -1:]
    if kept is not None:
        reached = reached & kept
    found = mx.argmax(reached, axis=-1)
    at = found[:, None]
    is_found = mx.take_along_axis(reached, at, axis=-1) & (mx.take_along_axis(weights, at, axis=-1) > 0)
    return mx.where(is_found[:, 0], found, mx.argmax(weights, axis=-1))


def _mix(value: int) -> int:
    # splitmix64 (Steele, Lea, Flood 2014): each input bit changes about half of the output bits.
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
