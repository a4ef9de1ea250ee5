from __future__ import annotations

import random

import pytest

from mlxbridge.host.engine.drafts.lookup import Lookup


def indexed(tokens: list[int]) -> Lookup:
    lookup = Lookup(tokens)
    lookup.index(len(tokens))
    return lookup


def by_hand(tokens: list[int], most: int) -> list[int]:
    """The guess after the longest earlier occurrence of a suffix of at least two, the newest of equals."""
    best, most_agreeing = None, 1
    for place in range(len(tokens) - 1, 1, -1):
        agreeing = 0
        while agreeing < place and tokens[place - agreeing - 1] == tokens[len(tokens) - agreeing - 1]:
            agreeing += 1
        if agreeing > most_agreeing:
            best, most_agreeing = place, agreeing
    if best is None:
        return []
    said = list(tokens)
    for offset in range(most):
        said.append(said[best + offset])
    return said[len(tokens) :]


def test_what_followed_before_is_guessed() -> None:
    assert indexed([5, 1, 2, 3, 4, 9, 1, 2]).guess(3) == [3, 4, 9]


@pytest.mark.parametrize("tokens", [[], [1], [1, 2], [1, 2, 3, 4, 5], [2, 1, 3, 1, 2]])
def test_nothing_is_guessed_without_an_earlier_pair(tokens: list[int]) -> None:
    assert indexed(tokens).guess(8) == []


def test_the_longest_agreement_wins_over_the_newest() -> None:
    assert indexed([7, 8, 1, 2, 50, 9, 1, 2, 60, 7, 8, 1, 2]).guess(1) == [50]
    assert indexed([3, 8, 1, 2, 50, 9, 1, 2, 60, 7, 4, 1, 2]).guess(1) == [60]


def test_a_repetition_goes_on() -> None:
    assert indexed([4, 1, 2, 3, 1, 2, 3, 1, 2]).guess(8) == [3, 1, 2, 3, 1, 2, 3, 1]
    assert indexed([6, 6, 6]).guess(4) == [6, 6, 6, 6]


@pytest.mark.parametrize("seed", range(20))
def test_guesses_as_by_hand_while_the_row_grows(seed: int) -> None:
    chance = random.Random(seed)
    tokens = [chance.randrange(6) for _ in range(30)]
    lookup = Lookup(tokens)
    for _ in range(40):
        lookup.index(1000)
        assert lookup.num_unindexed == 0
        assert lookup.guess(7) == by_hand(tokens, 7)
        more = [chance.randrange(6) for _ in range(chance.randint(1, 4))]
        tokens = tokens + more
        lookup.extend(more)


def test_a_long_prompt_is_indexed_by_and_by() -> None:
    prompt = [*range(100, 200), 1, 2]
    lookup = Lookup([*prompt, 150, 151])
    lookup.index(20)
    assert lookup.num_unindexed == 82
    assert lookup.guess(2) == []
    lookup.index(60)
    assert lookup.guess(2) == [152, 153]


def test_a_guess_looks_at_few_places() -> None:
    # The only place that agrees on three tokens has been pushed out of sight by many that agree on two.
    near = [value for number in range(40) for value in (1000 + number, 1, 2, 2000 + number)]
    assert indexed([9, 1, 2, 3, *near, 9, 1, 2]).guess(1) == [2039]
