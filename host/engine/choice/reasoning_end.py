"""Closing reasoning that has had its tokens: the model's own end of it is drawn, whatever the model would draw."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from mlxbridge.host.engine.rows import Turn
from mlxbridge.host.engine.settings import Settings

_FREE = -1
_NO_TOKEN = -1


class ReasoningEnd:
    """Puts ``reasoning_end`` in place of what rows have drawn, from their ``closes_at`` on until it is complete.

    Which of its tokens is next depends on the token before, which may not have been read from the device yet: the
    model may have begun the end, or completed it, by itself. Nothing is computed while no row is being closed.
    """

    def __init__(self, turns: Sequence[Turn | None]) -> None:
        """Take the rows by place; they are looked at again for each choice."""
        self._turns = turns

    @staticmethod
    def is_used(row: Settings) -> bool:
        """Whether a row may need it."""
        return bool(row.reasoning_end)

    def apply(self, tokens: mx.array, last: mx.array) -> mx.array:
        """The tokens to be drawn in place of those that were.

        Args:
            tokens: uint32 array (rows,), as they were drawn.
            last: uint32 array (rows,), the tokens before them.
        """
        if not any(map(_is_closing, self._turns)):
            return tokens
        plans = [_plan(turn) if _is_closing(turn) and turn is not None else _NO_PLAN for turn in self._turns]
        going_on, then, begun, then_begun, else_ = mx.array(plans, dtype=mx.int32).T
        before = last.astype(mx.int32)
        forced = mx.where(before == going_on, then, mx.where(before == begun, then_begun, else_))
        return mx.where(forced == _FREE, tokens, forced.astype(mx.uint32))


_NO_PLAN = (_NO_TOKEN, _FREE, _NO_TOKEN, _FREE, _FREE)


def _is_closing(turn: Turn | None) -> bool:
    return (
        turn is not None
        and turn.closes_at is not None
        and turn.num_drawn >= turn.closes_at
        and not turn.ended
        and not _is_held(turn)
    )


def _is_held(turn: Turn) -> bool:
    """Whether a call has begun amid reasoning, which is over then, though its row has not been told yet."""
    return turn.constraint is not None and turn.constraint.asks_matcher


def _plan(turn: Turn) -> tuple[int, int, int, int, int]:
    """What to draw, by the token before: the one that goes on with the end, the one that begins it, or any other.

    Returns:
        The first of these and what follows it, the second and what follows it, and what follows any other.
    """
    end = turn.settings.reasoning_end
    read = turn.answer[: max(0, turn.num_drawn - 1)]  # what comes behind is the token before, read or not
    # No end has a token twice, so it is begun by its first one alone.
    num_begun = next(n for n in range(len(end) - 1, -1, -1) if tuple(read[len(read) - n :]) == end[:n])
    following = [*end[1:], _FREE]
    return end[num_begun], following[num_begun], end[0], following[0], end[0]
