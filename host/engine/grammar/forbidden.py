"""Texts that an answer must not contain although its grammar has room for them, such as what ends a call in one's arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mlxbridge.host.engine.grammar.bits import Words, bits


class Forbidden:
    """Knows which tokens would complete one of the texts; shared by all answers of one model."""

    def __init__(self, texts: Sequence[str], spelling: Sequence[bytes]) -> None:
        """Take the texts, none of them empty, and by token id the bytes that a token stands for."""
        self._texts = [text.encode() for text in texts]
        self._spelling = spelling
        contains = re.compile(b"|".join(map(re.escape, self._texts))).search
        rests = tuple(rest for text in self._texts for rest in _ends(text) if rest != text)
        # By token id: what completes a text by itself, and what may once another token has begun one.
        self._whole = [token for token, name in enumerate(spelling) if contains(name)]
        self._endings = [token for token, name in enumerate(spelling) if name.startswith(rests)]
        self._words: dict[bytes, Words] = {}

    def follow(self, tail: bytes, token: int) -> bytes:
        """What may yet become one of the texts: the longest end of an answer that one begins with.

        Args:
            tail: what this said of the answer without the token.
            token: the answer's last one.
        """
        written = tail + self._spelling[token]
        return next((end for end in _ends(written) if self._rests(end)), b"")

    def withhold(self, words: Words, tail: bytes) -> None:
        """Take away the tokens that would complete a text, unless there is no other.

        Args:
            words: uint32 array (words,), a bit a token.
            tail: see ``follow``.
        """
        if tail not in self._words:
            self._words[tail] = bits([*self._whole, *self._completing(tail)], len(words))
        left = words & ~self._words[tail]
        if left.any():
            words[:] = left

    def _completing(self, tail: bytes) -> Iterator[int]:
        rests = tuple(rest for end in _ends(tail) for rest in self._rests(end))
        return (token for token in self._endings if self._spelling[token].startswith(rests))

    def _rests(self, begun: bytes) -> list[bytes]:
        """What is left of the texts that begin so."""
        return [text[len(begun) :] for text in self._texts if text.startswith(begun) and text != begun]


def _ends(text: bytes) -> Iterator[bytes]:
    return (text[start:] for start in range(len(text)))
