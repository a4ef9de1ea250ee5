"""What one answer may go on with: follows it token by token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_ALL = np.uint32(0xFFFF_FFFF)
_NO_END = "only tokens that end the answer go on here, and it must not end"


class Constraint:
    """Belongs to a call, whose jobs hand it on; has taken the tokens of the answer that have been read, and no others.

    Attributes:
        has_ended: the answer is complete, and nothing may follow.
        error: why it cannot go on.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        *,
        num_words: int,
        end_ids: Sequence[int],
        are_ends_text: bool,
        min_tokens: int,
    ) -> None:
        """Begin with an empty answer; see ``compiler.Grammar.constrain``.

        Args:
            matcher: as at the beginning, and nobody else's.
            num_words: of 32 tokens each, that the vocabulary has.
            end_ids: tokens that end the answer.
            are_ends_text: whether the matcher may take one of them for text.
            min_tokens: before so many they cannot be drawn.
        """
        self.matcher = matcher
        self.num_words = num_words
        self.has_ended = False
        self.error: str | None = None
        self._end_ids = frozenset(end_ids)
        self._ends = np.zeros(num_words, dtype=np.uint32)
        for token in end_ids:
            self._ends[token // 32] |= np.uint32(1 << token % 32)
        self._are_ends_text = are_ends_text
        self._min_tokens = min_tokens
        self._num_taken = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a next token."""
        return not self.has_ended and self.error is None

    def begin(self, answer: Sequence[int]) -> None:
        """Have taken just these tokens, whichever it took before."""
        if self._num_taken != len(answer):
            self.matcher.reset()
            self._num_taken = 0
            self.has_ended, self.error = False, None
            for token in answer:
                self.take(token)

    def take(self, token: int) -> None:
        """Follow the answer by a token; one that ends it changes nothing."""
        if token in self._end_ids:
            return
        self._num_taken += 1
        if not self.matcher.consume_token(token):
            self.error = _reason(self.matcher)

    def look(self) -> Words:
        """What may come next, for one row alone; see ``complete``."""
        words = np.frombuffer(self.matcher.compute_bitmask(), dtype=np.uint32).copy()
        self.complete(words)
        return words[:-1]

    def complete(self, words: Words) -> None:
        """Turn a mask that the matcher made into that of the tokens which may be drawn, or note that there is none.

        Args:
            words: uint32 array (num_words + 1,), a bit a token, the last word 1 where the answer may end. If no token may
                be drawn, all are allowed: whatever comes is not read.
        """
        may_end = bool(words[-1])
        if not may_end and not self._are_ends_text:
            return  # the mask of an open grammar has tokens
        words[:-1] &= ~self._ends
        if not words[:-1].any():
            self.error = _reason(self.matcher) or (None if may_end else _NO_END)
            self.has_ended = self.error is None
            words[:] = _ALL
        elif may_end and self._num_taken >= self._min_tokens:
            words[:-1] |= self._ends


def _reason(matcher: LLMatcher) -> str | None:
    error: str = matcher.get_error().partition("\n")[0]
    if error == "NoExtensionBias":
        return "no token of the model's goes on here as it must"
    return error or None
