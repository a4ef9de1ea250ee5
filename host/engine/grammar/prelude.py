"""Reasoning before that part of an answer which is held to something; token by token, and without a grammar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]


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


class EndMarker:
    """Knows which tokens complete the marker that closes reasoning and go on behind it, past what the answer is held to.

    Shared by all answers of one model.
    """

    def __init__(self, end: str, spelling: Sequence[bytes]) -> None:
        """Take the marker, and by token id the bytes that a token stands for."""
        self._end = end.encode()
        rests = tuple(self._end[start:] for start in range(len(self._end)))
        self._suspects = [
            (token, name)
            for token, name in enumerate(spelling)
            if name.startswith(rests) and name not in rests or self._end in name
        ]
        self._num_words = -(-len(spelling) // 32)
        self._words: dict[bytes, Words] = {}

    def follow(self, tail: bytes, name: bytes) -> tuple[bytes, bool]:
        """What may yet become the marker, and whether it is complete, after a token of this spelling."""
        written = tail + name
        if self._end in written:
            return b"", True
        begun = (written[start:] for start in range(len(written)))
        return next((each for each in begun if self._end.startswith(each)), b""), False

    def passing(self, tail: bytes) -> Words:
        """The tokens that would complete it behind ``tail`` and go on, as uint32 (words,), a bit a token."""
        if tail not in self._words:
            self._words[tail] = bits(
                [token for token, name in self._suspects if self._goes_on(tail + name)], self._num_words
            )
        return self._words[tail]

    def _goes_on(self, written: bytes) -> bool:
        return bool(written.partition(self._end)[2])


class _Stage(Enum):
    BEFORE = auto()
    OPENING = auto()
    INSIDE = auto()
    OVER = auto()


class Prelude:
    """One row's reasoning."""

    def __init__(
        self, reasoning: Reasoning, end: EndMarker, spelling: Sequence[bytes], end_ids: Sequence[int]
    ) -> None:
        """Begin.

        Args:
            reasoning: how it is marked.
            end: knows the marker that closes it.
            spelling: by token id the bytes that a token stands for.
            end_ids: tokens that end the answer; reasoning is no end.
        """
        self._reasoning = reasoning
        self._spelling = spelling
        self._end = end
        num_words = -(-len(spelling) // 32)
        self._inside = ~bits([*end_ids, *reasoning.avoided_ids], num_words)
        self._openers = [bits([token], num_words) for token in reasoning.start_ids]
        self.begin()

    def begin(self) -> None:
        """Have taken nothing."""
        self._stage = _Stage.BEFORE if self._openers else _Stage.INSIDE
        self._num_opened = 0
        self._tail = b""

    @property
    def is_going_on(self) -> bool:
        """Whether the next token can only be one of reasoning."""
        if self._stage is _Stage.BEFORE:
            return self._reasoning.is_due
        return self._stage is not _Stage.OVER

    def take(self, token: int) -> bool:
        """Follow the answer by a token; False if it belongs to what comes after."""
        if self._stage is _Stage.OVER:
            return False
        if self._stage is _Stage.INSIDE:
            self._tail, is_complete = self._end.follow(self._tail, self._spelling[token])
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
        """Say which tokens may be drawn while it goes on, as uint32 (words,), a bit a token."""
        if self._stage is _Stage.INSIDE:
            words[:] = self._inside & ~self._end.passing(self._tail)
        else:
            words[:] = self._openers[self._num_opened]

    def add(self, words: Words) -> None:
        """Let it be opened where something else might be drawn."""
        if self._stage is _Stage.BEFORE:
            words |= self._openers[0]


def bits(tokens: Sequence[int], num_words: int) -> Words:
    """The tokens' bits, as uint32 (words,)."""
    words = np.zeros(num_words, dtype=np.uint32)
    for token in tokens:
        words[token // 32] |= np.uint32(1 << token % 32)
    return words
