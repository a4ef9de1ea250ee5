"""Texts that an answer must not contain although its grammar has room for them, such as what ends a call in one's arguments."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile

from mlxbridge.host.engine.grammar.prelude import Words, bits


class Forbidden:
    """Knows which tokens would complete one of the texts; shared by all answers of one model."""

    def __init__(self, texts: Sequence[str], spelling: Sequence[bytes]) -> None:
        """Take the texts, none of them empty, and by token id the bytes that a token stands for."""
        self._texts = [text.encode() for text in texts]
        self._spelling = spelling
        self._in_order = sorted((name, token) for token, name in enumerate(spelling) if name)
        self._contain = {token for name, token in self._in_order if any(text in name for text in self._texts)}
        self._words: dict[bytes, Words] = {}

    def follow(self, tail: bytes, token: int) -> bytes:
        """What may yet become one of the texts: the longest end of an answer that one begins with.

        Args:
            tail: what this said of the answer without the token.
            token: the answer's last one.
        """
        written = tail + self._spelling[token]
        return next((end for end in _ends(written) if any(text.startswith(end) for text in self._texts)), b"")

    def withhold(self, words: Words, tail: bytes) -> None:
        """Take away the tokens that would complete a text, unless there is no other.

        Args:
            words: uint32 array (words,), a bit a token.
            tail: see ``follow``.
        """
        if tail not in self._words:
            self._words[tail] = bits([*self._contain, *self._completing(tail)], len(words))
        left = words & ~self._words[tail]
        if left.any():
            words[:] = left

    def _completing(self, tail: bytes) -> Iterator[int]:
        for end in _ends(tail):
            for text in self._texts:
                if text.startswith(end):
                    yield from self._beginning_with(text[len(end) :])

    def _beginning_with(self, rest: bytes) -> Iterator[int]:
        first = bisect_left(self._in_order, (rest, 0))
        found = takewhile(lambda entry: entry[0].startswith(rest), islice(self._in_order, first, None))
        return (token for _, token in found)


def _ends(text: bytes) -> Iterator[bytes]:
    return (text[start:] for start in range(len(text)))
