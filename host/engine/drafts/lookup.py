"""Guessing what a row says next from what it was told and has said: prompt lookup (Saxena 2023), without a model.

The last tokens are looked for further back; what followed there is the guess. As in LZ77 (and zlib), places where the
same two tokens end are chained, newest first, and of the first few the one that agrees furthest back is taken.
"""

from __future__ import annotations

from collections.abc import Iterable

# Places that are looked at for one guess, and tokens before them that may agree.
_MOST_PLACES = 16
_MOST_AGREEING = 24
_NOWHERE = -1


class Lookup:
    """An index over one row's tokens, of pairs; a token costs one entry."""

    def __init__(self, tokens: Iterable[int]) -> None:
        """Take the tokens so far; nothing is indexed yet."""
        self._tokens = list(tokens)
        # By pair of tokens: the place behind its last occurrence.
        self._latest: dict[tuple[int, int], int] = {}
        # By place: the place behind the occurrence before, of the pair that ends here.
        self._before: list[int] = [_NOWHERE, _NOWHERE]

    @property
    def num_unindexed(self) -> int:
        """Tokens that a guess does not know of yet."""
        return max(0, len(self._tokens) - len(self._before))

    def extend(self, tokens: Iterable[int]) -> None:
        """The row goes on."""
        self._tokens += tokens

    def index(self, most: int) -> None:
        """Take at most so many tokens into the index, oldest first.

        The pair at the very end waits until something follows it.
        """
        tokens, latest, before = self._tokens, self._latest, self._before
        start = len(before)
        for place in range(start, min(start + most, len(tokens))):
            pair = (tokens[place - 2], tokens[place - 1])
            before.append(latest.get(pair, _NOWHERE))
            latest[pair] = place

    def guess(self, most: int) -> list[int]:
        """What may follow, at most so many tokens; empty if the last two have not come together before.

        Past the end of what is known a guess goes on with itself: what repeats is taken to go on repeating.
        """
        place = self._best_place()
        if place == _NOWHERE:
            return []
        guess = self._tokens[place : place + most]
        period = len(self._tokens) - place
        while len(guess) < most:
            guess.append(guess[len(guess) - period])
        return guess

    def _best_place(self) -> int:
        tokens = self._tokens
        if len(tokens) < 2:
            return _NOWHERE
        end = len(tokens)
        place = self._latest.get((tokens[-2], tokens[-1]), _NOWHERE)
        best, most_agreeing = _NOWHERE, 0
        for _ in range(_MOST_PLACES):
            if place == _NOWHERE:
                break
            agreeing = 2
            furthest = min(_MOST_AGREEING, place)
            while agreeing < furthest and tokens[place - agreeing - 1] == tokens[end - agreeing - 1]:
                agreeing += 1
            if agreeing > most_agreeing:
                best, most_agreeing = place, agreeing
                if agreeing == _MOST_AGREEING:
                    break
            place = self._before[place]
        return best
