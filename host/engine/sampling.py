"""One row's choice of the next token, the same alone and in any batch.

The random key of a token depends on the call's seed and on the token's position alone; MLX's global random
state is never read (it is per thread, starts from the clock, and what a draw sees would depend on who else is
in the batch).
"""

from __future__ import annotations

import math
import os

import mlx.core as mx

from mlxbridge.host.engine.interface import GenerateRequest

# Below this, 1/temperature overflows float32 arithmetic and the choice is the greedy one anyway.
MIN_TEMPERATURE = 1e-5

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15


class RowSampler:
    """Draws the tokens of one call, in order; the callable that mlx_lm's BatchGenerator takes for a row.

    mlx_lm would drop every row that starts with this one if an exception escaped, so none does.

    Attributes:
        error: what went wrong, None so far; tokens drawn from then on mean nothing.
    """

    def __init__(self, request: GenerateRequest, vocabulary_size: int) -> None:
        self.error: Exception | None = None
        self._seed = int.from_bytes(os.urandom(8), "little") if request.seed is None else request.seed
        self._position = 0
        self._scale = 1.0 / request.temperature
        self._top_p = request.top_p
        self._min_p = request.min_p
        self._top_k = request.top_k if request.top_k < vocabulary_size else 0

    def __call__(self, logprobs: mx.array) -> mx.array:
        """Draw the next token.

        Args:
            logprobs: float array (1, vocabulary size), normalised.

        Returns:
            uint32 array (1,), not evaluated.
        """
        try:
            return self._draw(logprobs)
        except Exception as exc:
            self.error = exc
            return mx.argmax(logprobs, axis=-1)

    def _draw(self, logprobs: mx.array) -> mx.array:
        logprobs = filter_logprobs(
            logprobs.astype(mx.float32), top_p=self._top_p, min_p=self._min_p, top_k=self._top_k
        )
        key = mx.random.key(key_seed(self._seed, self._position))
        self._position += 1
        return mx.random.categorical(logprobs * self._scale, key=key)


def make_sampler(request: GenerateRequest, vocabulary_size: int) -> RowSampler | None:
    """The sampler of a call, None for greedy (the batch's shared argmax)."""
    return None if request.temperature < MIN_TEMPERATURE else RowSampler(request, vocabulary_size)


def key_seed(seed: int, position: int) -> int:
    """64 bits for ``mx.random.key``, well mixed, from a call's seed and a token's position in the answer."""
    return _mix(_mix(seed & _MASK) + position * _GOLDEN)


def filter_logprobs(
    logprobs: mx.array, *, top_p: float = 1.0, min_p: float = 0.0, top_k: int = 0
) -> mx.array:
    """Set the tokens that must not be drawn to -inf: top_p first, then min_p, then top_k, as mlx_lm does.

    mlx_lm's own filters are not called: they are compiled anew, and kept, for every value that a caller
    thinks of.

    Args:
        logprobs: float32 array (rows, vocabulary size), normalised, before the temperature.
        top_p: keep the likeliest tokens that together reach this probability; 1 is off.
        min_p: keep tokens at least this many times as likely as the likeliest; 0 is off.
        top_k: keep this many tokens; 0 is off, else below the vocabulary size.
    """
    if top_p < 1.0:
        logprobs = _filter_top_p(logprobs, top_p)
    if min_p > 0.0:
        least = mx.max(logprobs, axis=-1, keepdims=True) + math.log(min_p)
        logprobs = mx.where(logprobs < least, -math.inf, logprobs)
    if top_k > 0:
        dropped = mx.argpartition(-logprobs, kth=top_k - 1, axis=-1)[..., top_k:]
        logprobs = mx.put_along_axis(logprobs, dropped, mx.array(-math.inf, logprobs.dtype), axis=-1)
    return logprobs


def _filter_top_p(logprobs: mx.array, top_p: float) -> mx.array:
    ordered = mx.sort(logprobs, axis=-1)
    probs = mx.exp(ordered)
    mass_above = mx.cumsum(probs, axis=-1, reverse=True, inclusive=False)
    total = mass_above[..., :1] + probs[..., :1]
    num_dropped = (mass_above >= top_p * total).sum(axis=-1, keepdims=True)
    least = mx.take_along_axis(ordered, num_dropped, axis=-1)
    return mx.where(logprobs < least, -math.inf, logprobs)


def _mix(value: int) -> int:
    # splitmix64 (Steele, Lea, Flood 2014): each input bit changes about half of the output bits.
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
