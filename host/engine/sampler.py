"""The choice of all rows' next tokens in one call, the same for a row alone and in any batch.

A row draws with one uniform number, which depends on its seed and on the token's position in the answer alone:
MLX's global random state is never read. The number picks a place in the cumulated weights of the tokens that
the filters keep, in the order of the vocabulary.

Filters mean what mlx_lm's do: top_p first, then min_p, then top_k, all on the probabilities before the
temperature; mlx_lm leaves open which of equally likely tokens top_k drops, here it is the later ones. All of them
together need one sort, and only where top_p or top_k is in use. Nothing here is compiled: fused kernels save less
than a millisecond a token, and building them takes a CUDA machine the better part of a minute, amid an answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from mlxbridge.host.engine.settings import Settings

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_GOLDEN_32 = 0x9E3779B9


@dataclass(frozen=True, slots=True)
class _Uses:
    """What the rows need of the sampler; the rest is left out."""

    greedy: bool
    temperature: bool
    top_p: bool
    min_p: bool
    top_k: bool


class Sampler:
    """Draws for a fixed set of rows; made anew when rows come or go."""

    def __init__(self, rows: Sequence[Settings], positions: Sequence[int]) -> None:
        """Take the rows' settings, and the position in its answer of the token that each draws next."""
        drawing = [row for row in rows if row.temperature > 0]
        self._is_greedy = not drawing
        if self._is_greedy:
            return
        self._uses = _Uses(
            greedy=len(drawing) < len(rows),
            temperature=any(row.temperature != 1 for row in drawing),
            top_p=any(row.top_p < 1 for row in drawing),
            min_p=any(row.min_p > 0 for row in drawing),
            top_k=any(row.top_k > 0 for row in drawing),
        )
        self._parameters = _columns(rows)
        self._positions = mx.array(list(positions), dtype=mx.uint32)

    def draw(self, logits: mx.array) -> mx.array:
        """Choose every row's next token, and move on by one position.

        Args:
            logits: float array (rows, vocabulary size), any offset.

        Returns:
            uint32 array (rows,), not evaluated.
        """
        if self._is_greedy:
            return mx.argmax(logits, axis=-1)
        tokens = _draw(self._uses, logits, self._positions, *self._parameters)
        self._positions = self._positions + 1
        return tokens


def _columns(rows: Sequence[Settings]) -> tuple[mx.array, ...]:
    def column(values: list[float]) -> mx.array:
        return mx.array(values, dtype=mx.float32)[:, None]

    # Off is a value that keeps everything, whatever rounding does: more than all mass, more than all tokens.
    return (
        mx.array([row.temperature == 0 for row in rows]),
        column([1 / row.temperature if row.temperature else 1.0 for row in rows]),
        column([row.top_p if row.top_p < 1 else math.inf for row in rows]),
        column([math.log(row.min_p) if row.min_p else -math.inf for row in rows]),
        mx.array([min(row.top_k or _MAX_TOP_K, _MAX_TOP_K) for row in rows], dtype=mx.int32)[:, None],
        mx.array([seed_words(row.seed) for row in rows], dtype=mx.uint32),
    )


_MAX_TOP_K = 2**31 - 1


def seed_words(seed: int) -> tuple[int, int]:
    """64 well mixed bits of a seed, as two 32-bit words."""
    mixed = _mix(seed & _MASK)
    return mixed >> 32, mixed & 0xFFFFFFFF


def uniforms(seeds: mx.array, positions: mx.array) -> mx.array:
    """One number in [0, 1) a row.

    Args:
        seeds: uint32 array (rows, 2), see ``seed_words``.
        positions: uint32 array (rows,), of the tokens to draw.

    Returns:
        float32 array (rows, 1).
    """
    keys = mx.stack([seeds[:, 0], seeds[:, 1] + positions * _GOLDEN_32], axis=1)
    return mx.vmap(lambda key: mx.random.uniform(shape=(1,), key=key))(keys)


def _draw(
    uses: _Uses,
    logits: mx.array,
    positions: mx.array,
    is_greedy: mx.array,
    scale: mx.array,
    top_p: mx.array,
    log_min_p: mx.array,
    top_k: mx.array,
    seeds: mx.array,
) -> mx.array:
    logits = logits.astype(mx.float32)
    best = mx.max(logits, axis=-1, keepdims=True)
    kept = kept_tokens(
        logits,
        best,
        top_p=top_p if uses.top_p else None,
        log_min_p=log_min_p if uses.min_p else None,
        top_k=top_k if uses.top_k else None,
    )
    weights = mx.exp((logits - best) * scale if uses.temperature else logits - best)
    tokens = _pick(weights, kept, uniforms(seeds, positions))
    return mx.where(is_greedy, mx.argmax(logits, axis=-1), tokens) if uses.greedy else tokens


def kept_tokens(
    logits: mx.array,
    best: mx.array,
    *,
    top_p: mx.array | None = None,
    log_min_p: mx.array | None = None,
    top_k: mx.array | None = None,
) -> mx.array | None:
    """Which tokens may be drawn.

    Args:
        logits: float32 array (rows, vocabulary size).
        best: float32 array (rows, 1), the greatest logit.
        top_p: float32 array (rows, 1), the likeliest tokens that together reach this probability stay.
        log_min_p: float32 array (rows, 1), the logarithm of the least probability in units of the greatest.
        top_k: int32 array (rows, 1), so many tokens stay.

    Returns:
        bool array like ``logits``; None if all stay.
    """
    kept = None
    if top_p is not None or top_k is not None:
        least = _least_kept(logits, best, top_p, top_k)
        kept = logits >= least
        if top_k is not None:
            # Of several tokens at the border, only so many as there is room for.
            above, border = logits > least, logits == least
            room = top_k - above.sum(axis=-1, keepdims=True)
            kept = above | (border & (mx.cumsum(border.astype(mx.int32), axis=-1) <= room))
    if log_min_p is not None:
        likely = logits >= best + log_min_p
        kept = likely if kept is None else kept & likely
    return kept


def _least_kept(logits: mx.array, best: mx.array, top_p: mx.array | None, top_k: mx.array | None) -> mx.array:
    ordered = mx.sort(logits, axis=-1)
    place = mx.zeros((logits.shape[0], 1), dtype=mx.int32)
    if top_p is not None:
        weights = mx.exp(ordered - best)
        above = mx.cumsum(weights, axis=-1, reverse=True, inclusive=False)
        mass = top_p * (above[:, :1] + weights[:, :1])
        dropped = (above >= mass).sum(axis=-1, keepdims=True).astype(mx.int32)
        place = mx.minimum(dropped, logits.shape[1] - 1)  # should top_p round to nothing, the likeliest stays
    if top_k is not None:
        place = mx.maximum(place, logits.shape[1] - top_k)
    return mx.take_along_axis(ordered, place, axis=-1)


def _pick(weights: mx.array, kept: mx.array | None, uniform: mx.array) -> mx.array:
    if kept is not None:
        weights = weights * kept
    cumulated = mx.cumsum(weights, axis=-1)
    # A parallel scan may round so that a token without weight seems to reach the place: it must also be kept. Should
    # rounding leave none, the place was at the very end.
    reached = cumulated > uniform * cumulated[:, -1:]
    if kept is not None:
        reached = reached & kept
    found = mx.argmax(reached, axis=-1)
    is_found = mx.take_along_axis(reached, found[:, None], axis=-1)[:, 0]
    return mx.where(is_found, found, mx.argmax(weights, axis=-1))


def _mix(value: int) -> int:
    # splitmix64 (Steele, Lea, Flood 2014): each input bit changes about half of the output bits.
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
