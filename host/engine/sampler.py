"""The choice of all rows' next tokens in one compiled call, the same for a row alone and in any batch.

A row draws with one uniform number, which depends on its seed and on the token's position in the answer alone:
MLX's global random state is never read. The number picks a place in the cumulated weights of the tokens that
the filters keep.

Filters mean what mlx_lm's do: top_p first, then min_p, then top_k, all on the probabilities before the
temperature; mlx_lm leaves open which of equally likely tokens top_k drops, here it is the later ones. None of them
needs a sort. A token stays if less than ``top_p`` of all mass, and fewer than ``top_k`` tokens, lie strictly above
it; both are monotone in the logit, so that one binary search over the bit patterns of floats finds the least logit
that stays, exactly, in as many rounds as the logits have bits.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import mlx.core as mx

from mlxbridge.host.engine.interface import GenerateRequest

# Below this, 1/temperature overflows float32 arithmetic and the choice is the greedy one anyway.
MIN_TEMPERATURE = 1e-5

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_GOLDEN_32 = 0x9E3779B9
# The low bits of a float32 that are zero if it came from a narrower type.
_ZERO_BITS = {mx.bfloat16: 16, mx.float16: 13}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one row's tokens are chosen; checked values only.

    ``temperature`` 0 is greedy; ``top_p`` 1, ``min_p`` 0 and ``top_k`` 0 are off. ``seed`` is any integer.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    min_p: float = 0.0
    top_k: int = 0
    seed: int = 0


GREEDY = Settings()


def settings_of(request: GenerateRequest, vocabulary_size: int) -> Settings:
    """A request's settings; one without a seed gets one from the system."""
    if request.temperature < MIN_TEMPERATURE:
        return GREEDY
    return Settings(
        temperature=request.temperature,
        top_p=request.top_p,
        min_p=request.min_p,
        top_k=request.top_k if request.top_k < vocabulary_size else 0,
        seed=int.from_bytes(os.urandom(8), "little") if request.seed is None else request.seed,
    )


@dataclass(frozen=True, slots=True)
class _Uses:
    """What a batch needs of the sampler; one compiled function each."""

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
        self._compiled: Callable[..., tuple[mx.array, mx.array]] | None = None
        if not drawing:
            return
        uses = _Uses(
            greedy=len(drawing) < len(rows),
            temperature=any(row.temperature != 1 for row in drawing),
            top_p=any(row.top_p < 1 for row in drawing),
            min_p=any(row.min_p > 0 for row in drawing),
            top_k=any(row.top_k > 0 for row in drawing),
        )
        self._compiled = _compiled(uses)
        self._parameters = _columns(rows)
        self._positions = mx.array(list(positions), dtype=mx.uint32)

    def draw(self, logits: mx.array) -> mx.array:
        """Choose every row's next token, and move on by one position.

        Args:
            logits: float array (rows, vocabulary size), any offset.

        Returns:
            uint32 array (rows,), not evaluated.
        """
        if self._compiled is None:
            return mx.argmax(logits, axis=-1)
        tokens, self._positions = self._compiled(logits, self._positions, *self._parameters)
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


@cache
def _compiled(uses: _Uses) -> Callable[..., tuple[mx.array, mx.array]]:
    def draw(
        logits: mx.array,
        positions: mx.array,
        is_greedy: mx.array,
        scale: mx.array,
        top_p: mx.array,
        log_min_p: mx.array,
        top_k: mx.array,
        seeds: mx.array,
    ) -> tuple[mx.array, mx.array]:
        zero_bits = _ZERO_BITS.get(logits.dtype, 0)
        logits = logits.astype(mx.float32)
        best = mx.max(logits, axis=-1, keepdims=True)
        weights = mx.exp(logits - best)
        kept = kept_tokens(
            logits,
            best,
            weights,
            top_p=top_p if uses.top_p else None,
            log_min_p=log_min_p if uses.min_p else None,
            top_k=top_k if uses.top_k else None,
            zero_bits=zero_bits,
        )
        if uses.temperature:
            weights = mx.exp((logits - best) * scale)
        tokens = _pick(weights, kept, uniforms(seeds, positions))
        if uses.greedy:
            tokens = mx.where(is_greedy, mx.argmax(logits, axis=-1), tokens)
        return tokens, positions + 1

    # On a CPU nothing is won by fusing, and the C++ compiler would run in the middle of an answer.
    return mx.compile(draw) if mx.default_device() == mx.gpu else draw


def kept_tokens(
    logits: mx.array,
    best: mx.array,
    weights: mx.array,
    *,
    top_p: mx.array | None = None,
    log_min_p: mx.array | None = None,
    top_k: mx.array | None = None,
    zero_bits: int = 0,
) -> mx.array | None:
    """Which tokens may be drawn.

    Args:
        logits: float32 array (rows, vocabulary size).
        best: float32 array (rows, 1), the greatest logit.
        weights: float32 array like ``logits``, their exponentials in units of the greatest.
        top_p: float32 array (rows, 1), the likeliest tokens that together reach this probability stay.
        log_min_p: float32 array (rows, 1), the logarithm of the least probability in units of the greatest.
        top_k: int32 array (rows, 1), so many tokens stay.
        zero_bits: low bits of every logit that are known to be zero.

    Returns:
        bool array like ``logits``; None if all stay.
    """
    kept = None
    if top_p is not None or top_k is not None:
        mass = None if top_p is None else top_p * weights.sum(axis=-1, keepdims=True)
        least = _least_kept(logits, best, weights, mass, top_k, zero_bits)
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


def _least_kept(
    logits: mx.array,
    best: mx.array,
    weights: mx.array,
    mass: mx.array | None,
    top_k: mx.array | None,
    zero_bits: int,
) -> mx.array:
    # Invariant: what lies above ``low`` is too much to be kept (or low lies below all), above ``high`` it is not.
    high = _order(best, zero_bits)
    low = _order(mx.min(logits, axis=-1, keepdims=True), zero_bits) - 1
    for _ in range(32 - zero_bits):
        middle = (low >> 1) + (high >> 1) + (low & high & 1)
        above = logits > _unorder(middle, zero_bits)
        fits = mx.array(True)
        if mass is not None:
            fits = (above * weights).sum(axis=-1, keepdims=True) < mass
        if top_k is not None:
            fits = fits & (above.sum(axis=-1, keepdims=True) < top_k)
        high, low = mx.where(fits, middle, high), mx.where(fits, low, middle)
    return _unorder(high, zero_bits)


def _order(values: mx.array, zero_bits: int) -> mx.array:
    """float32 to int32 of the same order, without the low bits that are zero."""
    bits = values.view(mx.int32) >> zero_bits
    return mx.where(bits >= 0, bits, bits ^ (0x7FFFFFFF >> zero_bits))


def _unorder(ordered: mx.array, zero_bits: int) -> mx.array:
    bits = mx.where(ordered >= 0, ordered, ordered ^ (0x7FFFFFFF >> zero_bits))
    return (bits << zero_bits).view(mx.float32)


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
