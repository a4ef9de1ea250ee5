"""Reasoning before that part of an answer which is held to something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from mlxbridge.host.engine.grammar.bits import Words, bits
from mlxbridge.host.engine.grammar.marker import Marker


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoning:
    """How a row reasons before it answers.

    Attributes:
        start_ids: tokens that open it; none if the prompt has.
        is_due: it has to come; if not, the model decides.
        end: the marker that closes it.
        avoided_ids: tokens that are not drawn meanwhile.
    """

    start_ids: tuple[int, ...]
    is_due: bool
    end: str
    avoided_ids: tuple[int, ...] = ()


class _Stage(Enum):
    BEFORE = auto()
    OPENING = auto()
    INSIDE = auto()
    OVER = auto()


class ReasoningPrelude:
    """One row's reasoning, see Prelude."""

    is_free = False

    def __init__(self, reasoning: Reasoning, end: Marker, end_ids: Sequence[int], num_words: int) -> None:
        """Begin.

        Args:
            reasoning: how it is marked.
            end: finds the marker that closes it.
            end_ids: tokens that end the answer; reasoning is no end.
            num_words: of 32 tokens each, that the vocabulary has.
        """
        self._reasoning = reasoning
        self._end = end
        self._inside = ~bits([*end_ids, *reasoning.avoided_ids], num_words)
        self._openers = [bits([token], num_words) for token in reasoning.start_ids]
        self.begin()

    def begin(self) -> None:
        """See Prelude."""
        self._stage = _Stage.BEFORE if self._openers else _Stage.INSIDE
        self._num_opened = 0
        self._tail = b""

    @property
    def is_going_on(self) -> bool:
        """See Prelude."""
        if self._stage is _Stage.BEFORE:
            return self._reasoning.is_due
        return self._stage is not _Stage.OVER

    def take(self, token: int) -> bool:
        """See Prelude."""
        if self._stage is _Stage.OVER:
            return False
        if self._stage is _Stage.INSIDE:
            self._tail, is_complete = self._end.follow(self._tail, token)
            if is_complete:
                self._stage = _Stage.OVER
            return True
        if token != self._reasoning.start_ids[self._num_opened]:
            self._stage = _Stage.OVER
            return False
        self._num_opened += 1
        is_open = self._num_opened == len(self._openers)
        self._stage = _Stage.INSIDE if is_open else _Stage.OPENING
        return True

    def mask(self, words: Words) -> None:
        """See Prelude."""
        if self._stage is not _Stage.INSIDE:
            words[:] = self._openers[self._num_opened]
            return
        words[:] = self._inside
        if (passing := self._end.passing(self._tail)) is not None:
            words &= ~passing

    def add(self, words: Words) -> None:
        """See Prelude."""
        if self._stage is _Stage.BEFORE:
            words |= self._openers[0]
