"""Which tokens close reasoning, by what was read and by what is still under way; no model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest

from mlxbridge.host.engine.choice.reasoning_end import ReasoningEnd
from mlxbridge.host.engine.rows import Job
from mlxbridge.host.engine.settings import GREEDY
from mlxbridge.host.engine.text.told_answer import ReasoningBudget

ONE = replace(GREEDY, reasoning_end=(7,))
THREE = replace(GREEDY, reasoning_end=(7, 8, 9))
DRAWN = 5


def job_at(position: int, read: list[int], *, closes_at: int | None, settings: object = ONE) -> Job:
    assert settings in (ONE, THREE)
    job = Job(prompt=[1], max_tokens=99, settings=ONE if settings is ONE else THREE)
    job.num_drawn, job.answer, job.closes_at = position, read, closes_at
    return job


def forced(job: Job, last: int) -> int:
    tokens = ReasoningEnd([None, job, None]).apply(
        mx.array([DRAWN] * 3, dtype=mx.uint32), mx.array([0, last, 0])
    )
    drawn: Any = tokens.tolist()
    assert (drawn[0], drawn[2]) == (DRAWN, DRAWN)
    return int(drawn[1])


@pytest.mark.parametrize(
    ("position", "closes_at", "last", "token"),
    [
        (3, None, 4, DRAWN),  # it need not be closed
        (3, 4, 4, DRAWN),  # not yet
        (3, 3, 4, 7),
        (4, 3, 4, 7),
        (3, 3, 7, DRAWN),  # the model has closed it by itself
    ],
)
def test_end_of_one_token(position: int, closes_at: int | None, last: int, token: int) -> None:
    assert forced(job_at(position, [4] * (position - 1), closes_at=closes_at), last) == token


@pytest.mark.parametrize(
    ("read", "last", "token"),
    [
        ([4, 4], 4, 7),
        ([4, 4], 7, 8),
        ([4, 7], 8, 9),
        ([7, 8], 9, DRAWN),
        ([4, 7], 4, 7),  # the model began it, and went on otherwise
        ([7, 8], 7, 8),
        ([4, 7], 7, 8),
        ([7, 8], 8, 7),
        ([], 4, 7),
        ([], 7, 8),
    ],
)
def test_end_of_several_tokens_goes_on_where_it_was(read: list[int], last: int, token: int) -> None:
    job = job_at(len(read) + 1, read, closes_at=1, settings=THREE)
    assert forced(job, last) == token
    job.answer.append(last)  # read meanwhile, as in a row that has just joined
    assert forced(job, last) == token


def test_ended_row_is_left_alone() -> None:
    job = job_at(3, [4, 4], closes_at=3)
    job.ended = True
    assert forced(job, 4) == DRAWN


def test_rows_are_closed_side_by_side() -> None:
    jobs = [job_at(3, [4, 4], closes_at=3), None, job_at(3, [4, 7], closes_at=2, settings=THREE)]
    tokens = ReasoningEnd(jobs).apply(mx.array([DRAWN] * 3, dtype=mx.uint32), mx.array([4, 4, 8]))
    assert tokens.tolist() == [7, DRAWN, 9] and tokens.dtype == mx.uint32


def test_where_nothing_is_closed_nothing_is_computed() -> None:
    tokens = mx.array([DRAWN], dtype=mx.uint32)
    assert ReasoningEnd([job_at(3, [4, 4], closes_at=None)]).apply(tokens, tokens) is tokens


# -- the count


def feed(budget: ReasoningBudget, *states: bool) -> list[int | None]:
    plans = []
    for number, is_open in enumerate(states, start=1):
        budget.feed(is_open=is_open, num_answer=number)
        plans.append(budget.closes_at)
    return plans


def test_budget_counts_tokens_between_the_markers() -> None:
    budget = ReasoningBudget(None, is_open=False, num_end_tokens=1)
    assert feed(budget, False, True, True, True, False, False) == [None] * 6
    assert budget.num_tokens == 2
    budget = ReasoningBudget(None, is_open=True, num_end_tokens=3)
    feed(budget, True, True, True, True, False, False)  # two of the four belong to the marker
    assert budget.num_tokens == 2


def test_budget_is_closed_one_token_before_it_is_used_up() -> None:
    """The next token is already being drawn when one is read."""
    budget = ReasoningBudget(3, is_open=True, num_end_tokens=1)
    assert budget.closes_at is None
    assert feed(budget, True, True, True, False, False) == [None, 3, 3, None, None]
    assert budget.num_tokens == 3


def test_budget_of_one_token_is_closed_from_the_start() -> None:
    assert ReasoningBudget(1, is_open=True, num_end_tokens=1).closes_at == 1
    budget = ReasoningBudget(1, is_open=False, num_end_tokens=1)
    assert feed(budget, False, True, True, False) == [None, 3, 3, None]


def test_budget_is_for_all_reasoning_of_an_answer() -> None:
    budget = ReasoningBudget(2, is_open=False, num_end_tokens=1)
    assert feed(budget, True, True, False, False, True, False) == [None, 3, None, None, 6, None]
