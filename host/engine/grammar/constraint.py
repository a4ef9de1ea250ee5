"""What one answer may go on with: follows it token by token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher

from mlxbridge.host.engine.grammar.bits import Words, bits
from mlxbridge.host.engine.grammar.forbidden import Forbidden
from mlxbridge.host.engine.grammar.prelude import Prelude

_ALL = np.uint32(0xFFFF_FFFF)
_NO_END = "only tokens that end the answer go on here, and it must not end"


class Constraint:
    """Belongs to a call, whose jobs hand it on; has taken the tokens of the answer that have been read, and no others.

    Attributes:
        has_ended: the answer is complete, and nothing may follow.
        error: why it cannot go on.
        param: what of the request it is for.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        *,
        num_words: int,
        end_ids: Sequence[int],
        are_ends_text: bool,
        min_tokens: int,
        prelude: Prelude | None = None,
        recurs: bool = False,
        forbidden: Forbidden | None = None,
        param: str = "response_format",
    ) -> None:
        """Begin with an empty answer; see ``compiler.Grammar.constrain``.

        Args:
            matcher: as at the beginning; it is copied, and nobody may change it.
            num_words: of 32 tokens each, that the vocabulary has.
            end_ids: tokens that end the answer.
            are_ends_text: whether the matcher may take one of them for text.
            min_tokens: before so many they cannot be drawn.
            prelude: what may come before that which the matcher is for.
            recurs: once the matcher's part is whole, the prelude comes again, and then that.
            forbidden: what the matcher takes and must not come.
            param: for errors.
        """
        self.param = param
        self.matcher = matcher.deep_copy()
        self.num_words = num_words
        self.has_ended = False
        self.error: str | None = None
        self._end_ids = frozenset(end_ids)
        self._ends = bits(end_ids, num_words)
        self._are_ends_text = are_ends_text
        self._min_tokens = min_tokens
        self._num_taken = 0
        self._first_matcher = matcher
        self._prelude = prelude
        self._recurs = recurs
        self._forbidden = forbidden
        self._tail = b""

    @property
    def is_open(self) -> bool:
        """Whether there is a next token."""
        return not self.has_ended and self.error is None

    @property
    def is_free(self) -> bool:
        """Whether any token may be drawn next."""
        return self._prelude is not None and self._prelude.is_free

    @property
    def asks_matcher(self) -> bool:
        """Whether it is the matcher that knows the next token."""
        return self._prelude is None or not self._prelude.is_going_on

    def begin(self, answer: Sequence[int]) -> None:
        """Have taken just these tokens, whichever it took before."""
        if self._num_taken != len(answer):
            self._start()
            self._num_taken = 0
            self.has_ended, self.error = False, None
            for token in answer:
                self.take(token)

    def take(self, token: int) -> None:
        """Follow the answer by a token; one that ends it changes nothing."""
        if token in self._end_ids:
            return
        self._num_taken += 1
        if self._prelude is not None and self._prelude.take(token):
            return
        if self._forbidden is not None:
            self._tail = self._forbidden.follow(self._tail, token)
        if not self.matcher.consume_token(token):
            self.error = _reason(self.matcher)
        elif self._recurs and self.matcher.is_accepting():
            self._start()

    def look(self) -> Words:
        """What may come next, for one row alone; see ``complete``."""
        words = np.full(self.num_words + 1, _ALL)
        if self.asks_matcher:
            words[:] = np.frombuffer(self.matcher.compute_bitmask(), dtype=np.uint32)
        self.complete(words)
        return words[:-1]

    def complete(self, words: Words) -> None:
        """Turn a mask that the matcher made, if it was asked, into that of the tokens which may be drawn, or note that there is
        none.

        Args:
            words: uint32 array (num_words + 1,), a bit a token, the last word 1 where the answer may end. If no token may
                be drawn, all are allowed: whatever comes is not read.
        """
        if self._prelude is None:
            self._complete(words)
        elif self._prelude.is_going_on:
            self._prelude.mask(words[:-1])
        else:
            self._complete(words)
            self._prelude.add(words[:-1])
        if self._forbidden is not None and self.asks_matcher:
            self._forbidden.withhold(words[:-1], self._tail)

    def _start(self) -> None:
        self.matcher = self._first_matcher.deep_copy()  # ``reset`` would leave an error where it is
        self._tail = b""
        if self._prelude is not None:
            self._prelude.begin()

    def _complete(self, words: Words) -> None:
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
