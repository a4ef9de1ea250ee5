"""Which tokens the constrained rows of a lane may draw next, worked out on the host while the device computes logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import mlx.core as mx
import numpy as np
from llguidance import LLExecutor

from mlxbridge.host.engine.rows import Turn

_ALL = np.uint32(0xFFFF_FFFF)


class Masks:
    """For a fixed set of rows; made anew when rows come or go, and not made where no row is constrained."""

    def __init__(self, turns: Sequence[Turn | None]) -> None:
        """Take the rows by place."""
        found = [
            (place, turn, turn.constraint)
            for place, turn in enumerate(turns)
            if turn is not None and turn.constraint is not None
        ]
        self._rows = [(turn, constraint) for _, turn, constraint in found]
        # None where all rows are constrained.
        self._places = None
        if len(found) < len(turns):
            self._places = mx.array([place for place, _, _ in found], dtype=mx.int32)
        num_words = self._rows[0][1].num_words
        # uint32 (constrained rows, words + 1): a bit a token; a row that needs none allows all.
        self._words = np.full((len(self._rows), num_words + 1), _ALL)
        # None where no row needs any.
        self._allowed: mx.array | None = None

    @property
    def thread(self) -> ThreadPoolExecutor:
        """One for all lanes, to compute in."""
        return _thread()

    def compute(self) -> None:
        """Look at all answers as they are now, side by side and without the interpreter's lock."""
        words = self._words
        wanted = []
        for row, (turn, constraint) in enumerate(self._rows):
            if constraint.is_free or not constraint.is_open or turn.ended:
                words[row] = _ALL
            else:
                wanted.append((constraint, row))
        self._allowed = None
        if not wanted:
            return
        matchers = [(constraint.matcher, row) for constraint, row in wanted if constraint.asks_matcher]
        if matchers:
            _executor().unsafe_compute_mask_ptr(matchers, words.ctypes.data, words.strides[0], len(words))
        for constraint, row in wanted:
            constraint.complete(words[row])
        self._allowed = mx.array(words)

    def apply(self, logits: mx.array) -> mx.array:
        """Logits (places, vocabulary size), which may be changed, without the tokens that must not be drawn."""
        return logits if self._allowed is None else restrict(logits, self._allowed, self._places)


def restrict(logits: mx.array, words: mx.array, places: mx.array | None = None) -> mx.array:
    """Make the logits of tokens minus infinity whose bits are 0.

    Args:
        logits: float array (rows, vocabulary size); it may be changed.
        words: uint32 array (restricted rows, words), a bit a token, at least as many as the vocabulary has.
        places: int32 array (restricted rows,), which these are; None: all.
    """
    bits = mx.array([1 << bit for bit in range(8)], dtype=mx.uint8)
    octets = words.view(mx.uint8)
    allowed = ((octets[:, :, None] & bits) != 0).reshape(words.shape[0], -1)[:, : logits.shape[1]]
    if places is None:
        return mx.where(allowed, logits, -math.inf)
    logits[places] = mx.where(allowed, logits[places], -math.inf)
    return logits


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="mlxbridge-masks")


@cache
def _executor() -> LLExecutor:
    """Its threads; most calls need none, so they begin with the first that does."""
    return LLExecutor()
