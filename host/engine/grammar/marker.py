"""A text behind which something else begins, found token by token however it is cut into them."""

from __future__ import annotations

from collections.abc import Sequence

from mlxbridge.host.engine.grammar.bits import Words, bits


class Marker:
    """Knows which tokens complete it, and which go on behind it as well, past where something else begins.

    Shared by all answers of one model.
    """

    def __init__(self, text: str, spelling: Sequence[bytes]) -> None:
        """Take the marker, and by token id the bytes that a token stands for."""
        self._text = text.encode()
        self._spelling = spelling
        rests = tuple(self._text[start:] for start in range(len(self._text)))
        self._suspects = [
            (token, name)
            for token, name in enumerate(spelling)
            if name.startswith(rests)
            and any(name != rest and name.startswith(rest) for rest in rests)
            or self._text in name
        ]
        self._num_words = -(-len(spelling) // 32)
        self._passing: dict[bytes, Words | None] = {}

    def follow(self, tail: bytes, token: int) -> tuple[bytes, bool]:
        """What may yet become the marker, and whether it is complete, after one more token.

        Args:
            tail: what this said of the tokens before; none at the beginning.
            token: the last one.
        """
        written = tail + self._spelling[token]
        if self._text in written:
            return b"", True
        begun = (written[start:] for start in range(len(written)))
        return next((each for each in begun if self._text.startswith(each)), b""), False

    def passing(self, tail: bytes) -> Words | None:
        """The tokens that would complete it behind ``tail`` and go on, as uint32 (words,), a bit a token; None if there are none."""
        if tail not in self._passing:
            found = [token for token, name in self._suspects if self._goes_on(tail + name)]
            self._passing[tail] = bits(found, self._num_words) if found else None
        return self._passing[tail]

    def _goes_on(self, written: bytes) -> bool:
        return bool(written.partition(self._text)[2])
