"""Who runs, who waits, who is refused: the engine with a tiny model, and with little memory."""

from __future__ import annotations

import gc
import random
import time
import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest

from mlxbridge.errors import ContextTooLong, DeadlineExceeded, ModelLoadFailed, Overloaded
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import Origin
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.prefill.budget import PrefillBudget
from mlxbridge.host.engine.queue import TURN
from tests.host.engine.tiny import TEXTS, Answers

MakeEngine = Callable[..., BatchEngine]
# One place for 256 tokens of the tiny model's.
PAGE = 256 * 512


@pytest.fixture(scope="module")
def endless(loaded: LoadedModel) -> LoadedModel:
    """The tiny model without EOS, so that lengths are known."""
    return replace(loaded, eos_ids=frozenset())


@pytest.fixture
def narrow(make_engine: MakeEngine, endless: LoadedModel) -> Answers:
    """One call at a time."""
    return Answers(make_engine(endless, max_batch=1, max_waiting=8))


def order_of_ends(answers: Answers) -> list[int]:
    answers.finish()
    return list(answers.last)


def test_high_before_normal_before_low(narrow: Answers) -> None:
    narrow.submit(0, prompt="a", max_tokens=3)
    narrow.step()
    for call, priority in enumerate(("low", "normal", "high", "normal"), 1):
        narrow.submit(call, prompt="a", max_tokens=3, priority=priority)
    counts = {"waiting": 4, "waiting_high": 1, "waiting_normal": 2, "waiting_low": 1}
    assert narrow.engine.stats().items() >= counts.items()
    assert order_of_ends(narrow) == [0, 3, 2, 4, 1]


def steps_to_first_token(answers: Answers, call: int, **request: object) -> int:
    answers.submit(call, **request)
    for count in range(1, 1000):
        answers.step()
        if answers.tokens.get(call):
            return count
    raise AssertionError("no token came")


@pytest.mark.parametrize("num_prompt", [1, 40, 300])
def test_low_calls_that_fill_the_batch_keep_nobody_waiting(
    make_engine: MakeEngine, endless: LoadedModel, num_prompt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else it is steered by the clock, and steps cannot be compared.
    monkeypatch.setattr(PrefillBudget, "tokens", lambda self, *, is_decoding: 16)
    idle, busy = (Answers(make_engine(endless, max_batch=4)) for _ in range(2))
    prompt = [7, *range(20, 20 + num_prompt)]
    for call in range(12):
        given = {"prompt": [5 + call] * (100 + call), "max_tokens": 60, "seed": call, "temperature": 0.9}
        busy.submit(call, priority="low", **given)
        idle.submit(call, **given)
    idle.finish()
    # One long answer beside, so that prompts are read in pieces here too.
    idle.submit(30, prompt=[5, 6], max_tokens=400, seed=1, temperature=0.9)
    idle.step(4)
    alone = steps_to_first_token(idle, 31, prompt=prompt, max_tokens=5)
    idle.cancel(30)
    idle.finish()
    amid = []
    for call in range(31, 36):
        busy.step(13)  # first while all are being read
        amid.append(steps_to_first_token(busy, call, prompt=[*prompt, call], max_tokens=5))
    # A piece that was begun, and one in eight that is for those below.
    assert max(amid) <= alone + 1 + alone // (TURN - 1)
    assert busy.engine.stats()["preemptions_total"] > 1
    busy.finish()
    assert all(busy.tokens[call] == idle.tokens[call] for call in range(12))


def test_guests_take_turns(narrow: Answers) -> None:
    for call in range(5):
        narrow.submit_for(Origin(guest="many"), call, prompt="a", max_tokens=3)
    narrow.step()
    for call in (10, 11):
        narrow.submit_for(Origin(guest="few"), call, prompt="a", max_tokens=3)
    ends = order_of_ends(narrow)
    assert ends.index(10) <= 2 and ends.index(11) <= 4
    assert [call for call in ends if call < 10] == list(range(5))


def test_guest_who_has_drawn_much_waits_for_one_who_has_not(narrow: Answers) -> None:
    for call in range(3):
        narrow.submit_for(Origin(guest="long"), call, prompt="a", max_tokens=40)
        narrow.submit_for(Origin(guest="short"), 10 + call, prompt="a", max_tokens=10)
    assert order_of_ends(narrow) == [0, 10, 11, 12, 1, 2]


def test_full_queue_is_overloaded_but_not_by_one_guest_alone(narrow: Answers) -> None:
    greedy = Origin(guest="greedy")
    accepted = 0
    with pytest.raises(Overloaded, match="this guest's") as caught:
        for call in range(20):
            narrow.submit_for(greedy, call, prompt="a", max_tokens=2)
            accepted += 1
    assert caught.value.retry_after
    assert accepted == 7  # of nine: eight may wait, one can begin
    narrow.submit_for(Origin(guest="other"), 100, prompt="a", max_tokens=2)
    narrow.finish()


def test_burst_fills_the_free_places_whatever_may_wait(make_engine: MakeEngine, endless: LoadedModel) -> None:
    answers = Answers(make_engine(endless, max_batch=4, max_waiting=0))
    for call in range(4):
        answers.submit_for(Origin(guest=str(call)), call, prompt="a", max_tokens=3)
    with pytest.raises(Overloaded, match="--max-waiting"):
        answers.submit_for(Origin(guest="one more"), 4, prompt="a", max_tokens=3)
    answers.step()
    assert answers.engine.stats()["running"] == 4
    answers.finish()


def test_places_that_memory_cannot_give_are_no_room(make_engine: MakeEngine, endless: LoadedModel) -> None:
    answers = Answers(make_engine(endless, max_batch=8, max_waiting=1, kv_bytes=2 * PAGE))
    for call in range(3):
        answers.submit_for(Origin(guest=str(call)), call, prompt="a", max_tokens=100)
    answers.step()
    stats = answers.engine.stats()
    assert (stats["running"], stats["waiting"]) == (2, 1)
    with pytest.raises(Overloaded, match="1 calls wait, and 1 may") as caught:
        answers.submit_for(Origin(guest="one more"), 3, prompt="a", max_tokens=3)
    assert caught.value.details == {"waiting": 1, "limit": 1}
    answers.finish()
    answers.submit(4, prompt="a", max_tokens=3)
    answers.finish()
    assert len(answers.tokens[4]) == 3


def test_passed_deadline_ends_a_waiting_and_a_running_call(
    narrow: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr("mlxbridge.host.engine.batch.monotonic", lambda: now)
    narrow.submit_for(Origin(deadline_at=now + 10), 1, prompt="a", max_tokens=300)
    narrow.submit_for(Origin(deadline_at=now + 5), 2, prompt="a", max_tokens=3)
    narrow.submit_for(Origin(deadline_at=now + 50), 3, prompt="a", max_tokens=3)
    narrow.submit(4, prompt="a", max_tokens=3)
    narrow.step(6)
    assert not narrow.last
    now += 5
    narrow.step()
    assert set(narrow.last) == {2}
    error = narrow.last[2].error
    assert isinstance(error, DeadlineExceeded) and "before it was begun" in error.message
    now += 5
    narrow.step()
    error = narrow.last[1].error
    assert isinstance(error, DeadlineExceeded) and "after 6 tokens" in error.message
    assert narrow.engine.stats()["expired_total"] == 2
    narrow.finish()
    assert len(narrow.tokens[3]) == len(narrow.tokens[4]) == 3
    stats = narrow.engine.stats()
    assert stats["running"] == stats["waiting"] == stats["kv_bytes_projected"] == 0


def test_deadline_of_a_call_that_ended_is_forgotten(narrow: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr("mlxbridge.host.engine.batch.monotonic", lambda: now)
    narrow.submit_for(Origin(deadline_at=now + 1), 1, prompt="a", max_tokens=2)
    narrow.finish()
    now += 10
    narrow.submit(2, prompt="a", max_tokens=5)
    narrow.finish()
    assert narrow.engine.stats()["expired_total"] == 0


def test_call_that_could_never_fit_is_refused_at_once(make_engine: MakeEngine, endless: LoadedModel) -> None:
    answers = Answers(make_engine(endless, kv_bytes=PAGE))
    assert answers.engine.describe()["kv_bytes_budget"] == PAGE
    with pytest.raises(ContextTooLong) as caught:
        answers.submit(1, prompt=[5] * 100, max_tokens=200)
    assert caught.value.details["kv_bytes"] == 2 * PAGE and caught.value.details["kv_bytes_budget"] == PAGE
    answers.submit(2, prompt=[5] * 100)
    answers.finish()
    assert len(answers.tokens[2]) == 155


def test_memory_that_holds_no_call_fails_the_load(make_engine: MakeEngine, endless: LoadedModel) -> None:
    with pytest.raises(
        ModelLoadFailed, match="131,071 bytes .* takes 131,072; give --kv-memory at least 1MB"
    ):
        make_engine(endless, kv_bytes=PAGE - 1)


@pytest.mark.parametrize("pages", [1, 2, 3, 5])
def test_little_memory_lets_few_run_and_changes_no_text(
    make_engine: MakeEngine, endless: LoadedModel, pages: int
) -> None:
    plenty, little = Answers(make_engine(endless)), Answers(make_engine(endless, kv_bytes=pages * PAGE))
    most = 0
    for answers in (plenty, little):
        for call in range(9):
            answers.submit(
                call,
                prompt=TEXTS[call % 6],
                max_tokens=30 + 9 * call,
                temperature=0.8 * (call % 2),
                seed=call,
            )
            answers.step(call % 3)
    while little.engine.has_work:
        little.step()
        most = max(most, little.engine.stats()["kv_bytes_used"])
    assert most <= pages * PAGE
    assert little.tokens == plenty.finish().tokens and little.texts == plenty.texts


def test_answers_that_outgrow_the_memory_are_read_again_and_go_on_unchanged(
    make_engine: MakeEngine, endless: LoadedModel
) -> None:
    plenty = Answers(make_engine(endless))
    little = Answers(make_engine(endless, kv_bytes=4 * PAGE, expected_tokens=8))
    for answers in (plenty, little):
        for call, priority in enumerate(("normal", "high", "low", "normal")):
            answers.submit(
                call,
                prompt=[call + 5] * (200 + call),
                max_tokens=120,
                temperature=0.9 * (call % 2),
                repetition_penalty=1.1,
                logprobs=1,
                seed=call,
                stop=("never there",),
                priority=priority,
            )
    most = 0
    while little.engine.has_work:
        little.step()
        most = max(most, little.engine.stats()["kv_bytes_used"])
    assert little.engine.stats()["preemptions_total"] >= 2
    assert most <= 4 * PAGE
    plenty.finish()
    assert plenty.engine.stats()["preemptions_total"] == 0
    assert little.tokens == plenty.tokens and little.texts == plenty.texts
    ends = list(little.last)
    assert ends[-1] == 2 and set(ends[:2]) == {0, 1}  # the low one, and the newest normal one, gave way
    for call in range(4):
        usage = little.last[call].usage
        assert usage is not None
        assert (usage.prompt_tokens, usage.completion_tokens) == (200 + call, 120)
        assert len(little.logprobs[call] or []) == 120


def test_steady_load_on_little_memory_reads_no_prompt_twice(
    make_engine: MakeEngine, endless: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else it is steered by the clock, and runs differ.
    monkeypatch.setattr(PrefillBudget, "tokens", lambda self, *, is_decoding: 64)
    chance = random.Random(1)
    answers = Answers(make_engine(endless, kv_bytes=5 * PAGE, expected_tokens=64))
    number = 0
    while number < 24 or answers.engine.has_work:
        if number < 24 and answers.engine.stats()["waiting"] < 4:
            num_prompt = chance.choice((chance.randrange(5, 60), chance.randrange(260, 380)))
            priority = "high" if chance.random() < 0.3 else "normal"
            max_tokens = chance.randrange(10, 130)
            answers.submit(number, prompt=[5 + number] * num_prompt, max_tokens=max_tokens, priority=priority)
            number += 1
        answers.step()
    assert all(row.usage is not None for row in answers.last.values()) and len(answers.last) == 24
    assert answers.engine.stats()["preemptions_total"] == 0


def test_cancel_of_a_call_that_waits_again(make_engine: MakeEngine, endless: LoadedModel) -> None:
    answers = Answers(make_engine(endless, kv_bytes=3 * PAGE, expected_tokens=8))
    for call in (1, 2):
        answers.submit(call, prompt=[5] * 200, max_tokens=120)
    while not answers.engine.stats()["preemptions_total"]:
        answers.step()
    answers.cancel(2)
    usage = answers.last[2].usage
    assert usage is not None and usage.completion_tokens == len(answers.tokens[2]) > 30
    answers.finish()
    assert len(answers.tokens[1]) == 120
    assert answers.engine.stats()["kv_bytes_used"] == answers.engine.stats()["kv_bytes_projected"] == 0


def test_row_that_is_held_is_forgotten_when_everybody_has_gone(
    make_engine: MakeEngine, endless: LoadedModel
) -> None:
    answers = Answers(make_engine(endless))
    answers.engine._lanes._lane_bytes = 0
    answers.submit(1, prompt="a", max_tokens=300)
    answers.step(3)
    answers.submit(2, prompt=[5] * 400, max_tokens=10)
    for _ in range(100):
        if answers.engine._held:
            break
        answers.step()
    cache = weakref.ref(answers.engine._held[0].source.caches[0])
    answers.cancel(1)
    answers.cancel(2)
    gc.collect()
    assert cache() is None and not answers.engine.has_work


def test_projection_counts_what_is_read_and_what_is_decoded(
    make_engine: MakeEngine, endless: LoadedModel
) -> None:
    answers = Answers(make_engine(endless, prefill_chunk=8))
    answers.submit(1, prompt=[5] * 200, max_tokens=10)
    answers.step()
    assert answers.engine.stats()["kv_bytes_projected"] == PAGE
    answers.step(20)
    answers.submit(2, prompt=[5] * 200, max_tokens=100)
    answers.step(5)
    assert answers.engine.stats()["kv_bytes_projected"] == 2 * PAGE
    answers.finish()
