from __future__ import annotations

import random

import pytest

from mlxbridge.host.engine.drafts.lookup import Lookup
from mlxbridge.host.engine.drafts.rehearsal import Rehearsal


def drafted_for_real(context: list[int], answer: list[int], most: int) -> list[tuple[int, int]]:
    """What drafts of at most so many tokens would come to, were each one checked by a pass, until the answer is over."""
    outcomes, place = [], 0
    while place < len(answer):
        lookup = Lookup([*context, *answer[:place]])
        lookup.index(10_000)
        guess = lookup.guess(most)
        right = [one == other for one, other in zip(guess, answer[place:], strict=False)]
        num_right = [*right, False].index(False)
        if num_right == len(right) < len(guess):
            break  # nobody knows of the rest
        outcomes.append((len(guess), num_right))
        place += num_right + 1
    return outcomes


@pytest.mark.parametrize("seed", range(12))
def test_what_would_have_been_drafted_comes_to_the_same_as_for_real(seed: int) -> None:
    chance = random.Random(seed)
    phrase = [chance.randrange(50) for _ in range(12)]
    context = [chance.randrange(50) for _ in range(20)] + phrase
    answer: list[int] = []
    while len(answer) < 120:
        answer += phrase[: chance.randint(3, 12)] if chance.random() < 0.6 else [chance.randrange(50)]
    rehearsal = Rehearsal(context)
    found: list[tuple[int, int]] = []
    # The first token that is said is not guessed: nobody has looked before it.
    rest = list(answer)
    while rest:
        count = chance.randint(1, 3)
        found += rehearsal.rehearse(rest[:count])
        rest = rest[count:]
    expected = drafted_for_real([*context, answer[0]], answer[1:], 7)
    # One more that found nothing may be known already: behind the last token.
    assert found[: len(expected)] == expected
    assert len(found) - len(expected) <= 1
    assert any(num_right > 2 for _, num_right in found)


def test_after_a_draft_the_next_guess_begins_anew() -> None:
    rehearsal = Rehearsal([1, 2, 3, 4, 5, 9])
    assert list(rehearsal.rehearse([1, 2])) == [
        (0, 0),
    ]
    rehearsal.extend([3, 4])
    assert rehearsal.guess(3) == [5, 9, 1]
    assert list(rehearsal.rehearse([5])) == []


def test_a_long_context_is_taken_in_by_and_by() -> None:
    context = [*range(5000), 4990, 4991]
    rehearsal = Rehearsal(context)
    assert rehearsal.guess(1) == []
    for token in range(4992, 4999):
        list(rehearsal.rehearse([token]))
    assert rehearsal.guess(1) == []
    for _ in range(5):
        rehearsal.extend([4998, 4999])
    assert rehearsal.guess(2) == [4998, 4999]
