"""What is done to logits before a token is chosen: bias, penalties for what has been said, no end too early.

Bias and penalties are mlx_lm's (``sample_utils.make_logits_processors``), to the token: a penalty looks at so many
last tokens of prompt and answer, the token that the logits follow among them. That one may not have been read from
the device yet, so the recent tokens of all rows are kept there.

Each class is made for a fixed set of rows, touches only those that use it, and is not made where none does. All
arithmetic is in the type of the logits, as mlx_lm's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import mlx.core as mx

from mlxbridge.host.engine.settings import Settings

_NO_TOKEN = -1


class Bias:
    """Adds ``logit_bias``."""

    def __init__(self, rows: Sequence[Settings]) -> None:
        entries = [
            (place, token, value) for place, row in enumerate(rows) for token, value in row.logit_bias.items()
        ]
        self._at = (_ids([place for place, _, _ in entries]), _ids([token for _, token, _ in entries]))
        self._values = mx.array([value for _, _, value in entries], dtype=mx.float32)

    @staticmethod
    def is_used(row: Settings) -> bool:
        """Whether a row needs it."""
        return bool(row.logit_bias)

    def apply(self, logits: mx.array) -> mx.array:
        """Logits (rows, vocabulary size) with the bias."""
        return logits.at[self._at].add(self._values.astype(logits.dtype))


class Penalties:
    """Repetition, presence and frequency penalties, in this order."""

    def __init__(self, rows: Sequence[Settings], recent: Callable[[int, int], list[int]]) -> None:
        """Take the rows.

        Args:
            rows: the settings, by place.
            recent: for a place and a number, at most so many last tokens before the one that the next logits follow.
        """
        places = [place for place, row in enumerate(rows) if self.is_used(row)]
        used = [rows[place] for place in places]
        width = max(map(_context_size, used))
        # int32 (rows that use penalties, width): the last tokens, the newest last; room for the next one is at the
        # left.
        self._window = mx.array(
            [_padded(recent(place, width - 1), width) for place in places], dtype=mx.int32
        )
        self._places = _ids(places)[:, None]
        self._apply: list[tuple[Callable[..., mx.array], mx.array, mx.array]] = []
        for function, off, values, sizes in (
            (
                _repetition,
                1.0,
                [row.repetition_penalty for row in used],
                [row.repetition_context_size for row in used],
            ),
            (
                _presence,
                0.0,
                [row.presence_penalty for row in used],
                [row.presence_context_size for row in used],
            ),
            (
                _frequency,
                0.0,
                [row.frequency_penalty for row in used],
                [row.frequency_context_size for row in used],
            ),
        ):
            if any(value != off for value in values):
                is_near = mx.arange(width) >= width - mx.array(sizes)[:, None]
                self._apply.append((function, mx.array(values, dtype=mx.float32)[:, None], is_near))

    @staticmethod
    def is_used(row: Settings) -> bool:
        """Whether a row needs them."""
        return _context_size(row) > 0

    def apply(self, logits: mx.array, last: mx.array) -> mx.array:
        """Penalize, and remember.

        Args:
            logits: float array (rows, vocabulary size); it may be changed.
            last: uint32 array (rows,), the tokens that the logits follow.
        """
        newest = last[self._places].astype(mx.int32)
        self._window = mx.concatenate([self._window[:, 1:], newest], axis=1)
        for function, values, is_near in self._apply:
            counts = is_near & (self._window != _NO_TOKEN)
            # What does not count is made to name the newest token, which always does.
            at = (self._places, mx.where(counts, self._window, newest))
            logits = function(logits, at, values.astype(logits.dtype), counts)
        return logits


class LateEnd:
    """Keeps ``end_ids`` from being drawn before ``min_tokens`` have been."""

    def __init__(self, rows: Sequence[Settings], positions: Sequence[int]) -> None:
        """Take the rows' settings, and the position in its answer of the token that each draws next."""
        entries = [
            (place, token, row.min_tokens - position)
            for place, (row, position) in enumerate(zip(rows, positions, strict=True))
            if self.is_used(row, position)
            for token in row.end_ids
        ]
        self._at = (_ids([place for place, _, _ in entries]), _ids([token for _, token, _ in entries]))
        self._num_left = mx.array([num_left for _, _, num_left in entries], dtype=mx.int32)
        self._num_steps = 0
        self._last_step = max(num_left for _, _, num_left in entries)

    @staticmethod
    def is_used(row: Settings, position: int) -> bool:
        """Whether a row needs it at a position."""
        return bool(row.end_ids) and position < row.min_tokens

    @property
    def is_over(self) -> bool:
        """Whether every row has enough tokens."""
        return self._num_steps >= self._last_step

    def apply(self, logits: mx.array) -> mx.array:
        """Logits (rows, vocabulary size), which may be changed, without the tokens; a step is over."""
        logits[self._at] = mx.where(self._num_left > self._num_steps, -math.inf, logits[self._at])
        self._num_steps += 1
        return logits


_At = tuple[mx.array, mx.array]


def _repetition(logits: mx.array, at: _At, penalty: mx.array, _counts: mx.array) -> mx.array:
    found = logits[at]
    logits[at] = mx.where(found < 0, found * penalty, found / penalty)
    return logits


def _presence(logits: mx.array, at: _At, penalty: mx.array, _counts: mx.array) -> mx.array:
    logits[at] = logits[at] - penalty
    return logits


def _frequency(logits: mx.array, at: _At, penalty: mx.array, counts: mx.array) -> mx.array:
    return logits.at[at].subtract(mx.where(counts, penalty, 0))


def _context_size(row: Settings) -> int:
    """How many last tokens a row's penalties look at; 0 if it has none."""
    return max(
        row.repetition_context_size if row.repetition_penalty != 1 else 0,
        row.presence_context_size if row.presence_penalty else 0,
        row.frequency_context_size if row.frequency_penalty else 0,
    )


def _padded(tokens: list[int], width: int) -> list[int]:
    return [_NO_TOKEN] * (width - len(tokens)) + tokens


def _ids(values: list[int]) -> mx.array:
    return mx.array(values, dtype=mx.int32)
