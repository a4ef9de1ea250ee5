"""Calls that are held: they take neither time nor memory, and go on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import Origin
from tests.host.engine.tiny import TEXTS, Answers

MakeEngine = Callable[..., BatchEngine]


def submit(answers: Answers, count: int = 3, **request: Any) -> None:
    for call in range(count):
        answers.submit(
            call,
            prompt=TEXTS[call],
            **{"max_tokens": 30, "ignore_eos": True, "seed": call, "temperature": 0.8, **request},
        )


@pytest.fixture
def expected(make_engine: MakeEngine) -> Answers:
    answers = Answers(make_engine())
    submit(answers)
    return answers.finish()


@pytest.mark.parametrize("num_steps", [0, 1, 3, 10])
def test_answer_goes_on_as_if_nothing_had_happened(
    answers: Answers, expected: Answers, num_steps: int
) -> None:
    submit(answers)
    answers.step(num_steps)
    for call in (0, 2):
        answers.engine.hold(call)
        answers.engine.hold(call)
    length = len(answers.tokens.get(0, []))
    answers.finish()
    assert answers.last.keys() == {1} and len(answers.tokens.get(0, [])) == length
    for call in (0, 2):
        answers.engine.go_on(call)
        answers.engine.go_on(call)
    answers.finish()
    assert (answers.tokens, answers.texts) == (expected.tokens, expected.texts)


def test_held_calls_have_no_memory_and_give_no_work(answers: Answers) -> None:
    submit(answers)
    answers.step(5)
    for call in range(3):
        answers.engine.hold(call)
    stats = answers.engine.stats()
    assert not answers.engine.has_work and answers.engine.step() == []
    assert (stats["running"], stats["waiting"], stats["held"], stats["kv_bytes_used"]) == (0, 0, 3, 0)
    for call in range(3):
        answers.cancel(call)
    assert answers.engine.stats()["held"] == 0


def test_waiting_call_that_is_held_lets_others_by_and_keeps_its_place(make_engine: MakeEngine) -> None:
    answers = Answers(make_engine(max_batch=1))
    submit(answers, count=4, max_tokens=5)
    answers.step()
    answers.engine.hold(1)
    while 2 not in answers.tokens:
        answers.step()
    answers.engine.go_on(1)
    answers.finish()
    assert list(answers.last) == [0, 2, 1, 3]


def test_held_calls_are_nobodys_turn(make_engine: MakeEngine) -> None:
    answers = Answers(make_engine(max_batch=1, max_waiting=8))
    for call in range(6):
        answers.submit_for(Origin(guest=str(call % 2)), call, prompt="hello", max_tokens=3)
    answers.step()
    for call in range(1, 6, 2):
        answers.engine.hold(call)
    answers.finish()
    assert answers.last.keys() == {0, 2, 4}
    for call in range(1, 6, 2):
        answers.engine.go_on(call)
    answers.finish()
    assert answers.last.keys() == set(range(6)) and answers.engine.stats()["waiting"] == 0


def test_to_hold_what_is_not_open_is_harmless(answers: Answers) -> None:
    answers.engine.hold(7)
    answers.engine.go_on(7)
    assert not answers.engine.has_work
