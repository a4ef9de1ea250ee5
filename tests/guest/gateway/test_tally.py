"""What answers count as, with nothing but a record and a meter."""

from __future__ import annotations

import pytest

from mlxbridge.guest.gateway.callers import Caller
from mlxbridge.guest.gateway.limits import Meter
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.guest.gateway.record import Record
from mlxbridge.guest.gateway.tally import Tally
from mlxbridge.types import Chunk, Generation, Usage


def answer(completion_tokens: int) -> Generation:
    """One to a prompt of eleven tokens."""
    usage = Usage(finish_reason="stop", prompt_tokens=11, completion_tokens=completion_tokens)
    return Generation(
        text="",
        token_ids=[],
        model="demo",
        finish_reason="stop",
        prompt_tokens=11,
        completion_tokens=completion_tokens,
        tokens_per_second=1.0,
        time_to_first_token=1.0,
        usage=usage,
    )


def make(limit: int, num_choices: int) -> tuple[Record, Meter, Tally]:
    record = Record(request_id="", api="openai", route="/", method="POST", path="/")
    meter = Meter(Caller(name="alice", tokens_per_minute=limit), lambda: 0.0)
    return record, meter, Tally(record, meter, num_choices)


def test_prompt_counts_once_and_the_token_that_ends_an_answer_counts() -> None:
    record, meter, tally = make(2 * 11 + 12, num_choices=2)
    for index in (2, 0, 3):  # the first and the second answer to one prompt and to another
        tally.take(index, Chunk("a", [1]))
        tally.take(index, Chunk("b", [2]))
    assert (record.prompt_tokens, record.completion_tokens) == (0, 6)
    for index in (2, 0, 3, 1):
        tally.finish(index, answer(3))
    assert (record.prompt_tokens, record.completion_tokens) == (2 * 11, 4 * 3)
    with pytest.raises(Problem):
        meter.enter()


def test_limit_has_as_much_left_as_was_not_counted() -> None:
    _, meter, tally = make(11 + 3 + 1, num_choices=1)
    tally.take(0, Chunk("a", [1]))
    tally.finish(0, answer(3))
    meter.enter()
