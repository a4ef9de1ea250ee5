"""Calls whose grammar takes its time: others go on, they are read meanwhile, and may be given up."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from threading import Event

import pytest

from mlxbridge.errors import DeadlineExceeded, InvalidArgument, Unsupported
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.grammar import library as library_module
from mlxbridge.host.engine.grammar.compiler import Compiler, Grammar
from mlxbridge.host.engine.grammar.response_format import Source
from mlxbridge.host.engine.interface import Origin
from mlxbridge.host.engine.loader import LoadedModel
from tests.host.engine.tiny import TEXTS, Answers

SLOW = Source("regex", "response_format.pattern", "[0-9]{5}")
QUICK = Source("regex", "response_format.pattern", "[a-f]{5}")


@pytest.fixture
def may_go_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """Set, it lets ``SLOW`` be compiled."""
    event, real = Event(), Compiler.compile

    def compile_slowly(compiler: Compiler, source: Source) -> Grammar:
        if source == SLOW:
            assert event.wait(30)
        return real(compiler, source)

    monkeypatch.setattr(Compiler, "compile", compile_slowly)
    yield event
    event.set()


def finish(answers: Answers) -> Answers:
    """As ``Answers.finish``, however often a step finds nothing but a grammar to wait for."""
    return answers.finish(limit=100_000)


def test_others_go_on_and_the_prompt_is_read(answers: Answers, may_go_on: Event) -> None:
    answers.submit(1, prompt=TEXTS[0], response_format=SLOW)
    answers.submit(2, prompt=TEXTS[1], max_tokens=30, ignore_eos=True)
    while 2 not in answers.last:
        answers.step()
    assert 1 not in answers.tokens
    assert answers.engine.stats()["running"] == 1 and answers.engine.stats()["kv_bytes_projected"] > 0
    may_go_on.set()
    finish(answers)
    assert re.fullmatch("[0-9]{5}", answers.texts[1])


def test_rows_that_wait_for_a_grammar_keep_nobody_from_being_read(answers: Answers, may_go_on: Event) -> None:
    answers.submit(1, prompt=TEXTS[0], response_format=SLOW)
    answers.step(3)
    answers.submit(2, prompt=[5] * 300, max_tokens=3, ignore_eos=True)
    while 2 not in answers.last:
        answers.step()
    may_go_on.set()
    finish(answers)


def test_same_answer_whenever_the_grammar_is_there(
    make_engine: Callable[..., BatchEngine], may_go_on: Event
) -> None:
    request = {"prompt": TEXTS[2], "temperature": 1.0, "seed": 5, "response_format": SLOW}
    late, early = Answers(make_engine()), Answers(make_engine())
    late.submit(1, **request)
    late.submit(2, prompt=TEXTS[3], max_tokens=9)
    late.step(20)
    may_go_on.set()
    finish(late)
    early.submit(1, prompt="a", response_format=SLOW)
    finish(early)
    early.submit(2, **request)
    early.finish()
    assert early.tokens[2] == late.tokens[1]


def test_refusal_comes_while_the_call_waits(make_engine: Callable[..., BatchEngine]) -> None:
    answers = Answers(make_engine(max_batch=1))
    answers.submit(1, prompt="a", max_tokens=200, ignore_eos=True)
    answers.submit(2, prompt="a", response_format=Source("regex", "response_format.pattern", "("))
    while 2 not in answers.last:
        assert 1 not in answers.last, "it waited for its place, though it was refused"
        answers.step()
    error = answers.last[2].error
    assert isinstance(error, InvalidArgument) and error.details["field"] == "response_format.pattern"
    assert answers.engine.stats()["waiting"] == 0
    with pytest.raises(InvalidArgument):
        answers.submit(3, prompt="a", response_format=Source("regex", "response_format.pattern", "("))
    answers.finish()
    assert len(answers.tokens[1]) == 200


def test_grammar_that_takes_too_long_ends_the_call(
    answers: Answers, may_go_on: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers.submit(1, prompt="a", response_format=SLOW)
    answers.step(3)
    monkeypatch.setattr(library_module, "TIMEOUT_S", 0.0)
    answers.step()
    assert isinstance(answers.last[1].error, Unsupported)
    assert not answers.engine.has_work


def test_call_is_cancelled_before_its_grammar_is_there(answers: Answers, may_go_on: Event) -> None:
    answers.submit(1, prompt="a", response_format=SLOW)
    answers.submit(2, prompt="a", response_format=QUICK)
    answers.step(2)
    answers.cancel(1)
    finish(answers)
    assert re.fullmatch("[a-f]{5}", answers.texts[2]) and not answers.engine._compiling
    assert answers.engine.stats()["kv_bytes_used"] == 0


def test_deadline_passes_before_the_grammar_is_there(
    answers: Answers, may_go_on: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr("mlxbridge.host.engine.batch.monotonic", lambda: now)
    answers.submit_for(Origin(deadline_at=now + 5), 1, prompt="a", response_format=SLOW)
    monkeypatch.setattr(library_module, "TIMEOUT_S", -1.0)  # both at once: one last row
    now += 6
    answers.step()
    assert isinstance(answers.last[1].error, DeadlineExceeded)
    assert not answers.engine.has_work and not answers.engine._compiling


def test_step_that_has_nothing_but_grammars_to_wait_for_sleeps(answers: Answers, may_go_on: Event) -> None:
    answers.submit(1, prompt="a", response_format=SLOW)
    answers.step(3)
    started = time.perf_counter()
    answers.step(4)
    assert time.perf_counter() - started > 0.015
    may_go_on.set()
    finish(answers)


def test_compiling_works_for_a_model_alone(loaded: LoadedModel, answers: Answers) -> None:
    """The threads have no part in the model, and none is started before a grammar is asked for."""
    assert not answers.engine._intake._library._has_threads
    answers.submit(1, prompt="a", response_format=QUICK)
    assert answers.engine._intake._library._has_threads
    finish(answers)
