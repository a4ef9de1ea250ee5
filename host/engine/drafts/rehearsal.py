"""A row's own text, looked up for what comes next; and checked for what it would have been worth while nobody asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mlxbridge.host.engine.drafts.lookup import Lookup

# Tokens that are taken into the index when some are said: a long prompt's by and by.
_INDEXED_AT_ONCE = 512
_MOST_REHEARSED = 7


class Rehearsal:
    """Guesses for one row.

    In a plain step nothing is drafted, but what would have been is known a few tokens later, for next to nothing: so
    text that begins to repeat what came before is noticed.
    """

    def __init__(self, context: Iterable[int]) -> None:
        self._lookup = Lookup(context)
        self._lookup.index(_INDEXED_AT_ONCE)
        self._guess: list[int] = []
        self._num_right = 0
        self._is_after = False  # a guess that is right throughout brings one token more

    def guess(self, most: int) -> list[int]:
        """What may be said next, at most so many tokens; maybe nothing."""
        return self._lookup.guess(most)

    def extend(self, tokens: list[int]) -> None:
        """These were said after a draft, or after none was found."""
        self._guess = []
        self._lookup.extend(tokens)
        self._lookup.index(_INDEXED_AT_ONCE)

    def rehearse(self, tokens: list[int]) -> Iterator[tuple[int, int]]:
        """These were said in plain steps.

        Yields:
            For each draft that would have been over now: how many tokens it had, and how many of them were right.
        """
        for token in tokens:
            if self._guess:
                is_right = self._guess[self._num_right] == token
                self._num_right += is_right
                self._is_after = self._num_right == len(self._guess)
                if not is_right or self._is_after:
                    yield len(self._guess), self._num_right
                    self._guess = []
            else:
                self._is_after = False
            self._lookup.extend((token,))
            self._lookup.index(_INDEXED_AT_ONCE)
            if not self._guess and not self._is_after:
                self._guess, self._num_right = self._lookup.guess(_MOST_REHEARSED), 0
                if not self._guess:
                    yield 0, 0
