from __future__ import annotations

import random

import pytest

from mlxbridge.host.engine.drafts.acceptance import Acceptance, Prospect


@pytest.mark.parametrize("true_rate", [0.0, 0.3, 0.8, 1.0])
def test_rate_is_found_from_drafts_that_end_at_the_first_wrong_token(true_rate: float) -> None:
    chance = random.Random(5)
    acceptance = Acceptance(0.5, weight=0.01)
    for _ in range(3000):
        num_drafted = chance.randint(1, 7)
        right = [chance.random() < true_rate for _ in range(num_drafted)]
        acceptance.record(num_drafted, [*right, False].index(False))
    assert acceptance.rate == pytest.approx(true_rate, abs=0.06)
    assert acceptance.presence == pytest.approx(1, abs=0.01)


def test_presence_is_how_often_there_was_a_draft() -> None:
    acceptance = Acceptance(weight=0.02)
    for number in range(2000):
        acceptance.record(3 if number % 4 == 0 else 0, 0)
    assert acceptance.presence == pytest.approx(0.25, abs=0.05)


def test_an_empty_draft_says_nothing_of_the_rate() -> None:
    acceptance = Acceptance(0.4)
    acceptance.record(0, 0)
    assert acceptance.rate == pytest.approx(0.4)


def test_a_row_begins_with_what_is_usual_and_learns_by_itself() -> None:
    usual = Acceptance(0.3, 0.6)
    row = usual.of_row()
    assert (row.rate, row.presence) == (0.3, 0.6)
    row.record(2, 2)
    assert row.rate > 0.35 and usual.rate == 0.3


@pytest.mark.parametrize(
    ("rate", "presence", "most"), [(0.5, 1, 3), (0.9, 0.3, 15), (1, 1, 4), (0, 1, 4), (0.5, 1, 0)]
)
def test_gain_is_the_sum_over_the_tokens(rate: float, presence: float, most: int) -> None:
    for num_tokens in (0, 1, 3, 15):
        by_hand = presence * sum(rate**k for k in range(1, min(most, num_tokens) + 1))
        assert Prospect(rate, presence, most).gain(num_tokens) == pytest.approx(by_hand)
