"""Failures in a step: who ends, and that all others get the text they would have got anyway."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import llama

from mlxbridge.errors import InternalError
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.decode import Lane
from mlxbridge.host.engine.lanes import Lanes
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.memory import is_out_of_memory
from mlxbridge.host.engine.prefill.reading import Group
from mlxbridge.host.engine.prefixes.prefix_cache import PrefixCache
from tests.host.engine.architectures import ONE_OF_A_KIND, make_model
from tests.host.engine.tiny import TEXTS, Answers

MakeEngine = Callable[..., BatchEngine]
Trouble = Callable[[mx.array], object]


class FragileLlama(llama.Model):
    """A llama that raises at what ``trouble`` dislikes."""

    trouble: Trouble = staticmethod(lambda tokens: None)
    num_forwards = 0

    def __call__(self, inputs: mx.array, *arguments: Any, **options: Any) -> Any:
        FragileLlama.num_forwards += 1
        FragileLlama.trouble(inputs)
        return super().__call__(inputs, *arguments, **options)


@pytest.fixture(scope="module")
def fragile(loaded: LoadedModel) -> LoadedModel:
    """The tiny model without EOS, in a class of its own."""
    model = FragileLlama(loaded.model.args)
    model.update(loaded.model.parameters())
    return replace(loaded, model=model, eos_ids=frozenset())


def give_trouble(monkeypatch: pytest.MonkeyPatch, trouble: Trouble) -> None:
    monkeypatch.setattr(FragileLlama, "trouble", staticmethod(trouble))


def submit_some(answers: Answers, count: int = 8, max_tokens: int = 30) -> None:
    for call in range(count):
        answers.submit(
            call,
            prompt=TEXTS[call % 6] * (1 + call % 2),
            max_tokens=max_tokens,
            temperature=0.8 * (call % 2),
            repetition_penalty=1.2 if call % 3 == 0 else 1.0,
            seed=call,
        )
        answers.step(call % 2)


@pytest.fixture(scope="module")
def expected(fragile: LoadedModel) -> Answers:
    """What everyone is told when nothing fails."""
    answers = Answers(BatchEngine(fragile))
    submit_some(answers)
    return answers.finish()


def test_row_with_a_poisoned_token_fails_alone(
    make_engine: MakeEngine, fragile: LoadedModel, expected: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A token that exactly one answer has, and no prompt, so that it is read in a batch.
    victim, place = next(
        (call, place)
        for call, tokens in expected.tokens.items()
        for place, token in enumerate(tokens[:-1])
        if place > 5 and sum(row.count(token) for row in expected.tokens.values()) == 1
    )
    poison = expected.tokens[victim][place]

    def trouble(tokens: mx.array) -> None:
        if bool(mx.any(tokens == poison).item()):
            raise ValueError("indigestible")

    answers = Answers(make_engine(fragile))
    submit_some(answers)
    give_trouble(monkeypatch, trouble)
    answers.finish()
    error = answers.last[victim].error
    assert isinstance(error, InternalError) and "indigestible" in error.message
    assert answers.tokens[victim] == expected.tokens[victim][: place + 1]
    for call in expected.tokens:
        if call != victim:
            assert answers.tokens[call] == expected.tokens[call]
            assert answers.texts[call] == expected.texts[call]
            assert answers.last[call].error is None
    assert answers.engine._suspicion.limit == 64 and not answers.engine._suspicion._suspects


def test_everyone_is_poisoned_everyone_fails_alone(
    make_engine: MakeEngine, fragile: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(make_engine(fragile))
    submit_some(answers, max_tokens=200)
    answers.step(20)

    def trouble(tokens: mx.array) -> None:
        if tokens.shape[1] == 1:
            raise ValueError("no more")

    give_trouble(monkeypatch, trouble)
    before = FragileLlama.num_forwards
    answers.finish()
    assert all(isinstance(row.error, InternalError) for row in answers.last.values())
    assert FragileLlama.num_forwards - before < 60


@pytest.mark.parametrize("message", ["[metal::malloc] Attempting to allocate 9 bytes", "too wide"])
def test_more_rows_than_can_be_computed_are_run_in_smaller_batches(
    make_engine: MakeEngine,
    fragile: LoadedModel,
    expected: Answers,
    monkeypatch: pytest.MonkeyPatch,
    message: str,
) -> None:
    def trouble(tokens: mx.array) -> None:
        if tokens.shape[1] == 1 and tokens.shape[0] > 3:
            raise RuntimeError(message)

    answers = Answers(make_engine(fragile))
    give_trouble(monkeypatch, trouble)
    before = FragileLlama.num_forwards
    submit_some(answers)
    answers.finish()
    assert answers.tokens == expected.tokens and answers.texts == expected.texts
    assert all(row.error is None for row in answers.last.values())
    assert FragileLlama.num_forwards - before < 300


def test_a_lone_row_that_memory_does_not_suffice_for_fails(
    make_engine: MakeEngine, fragile: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trouble(tokens: mx.array) -> None:
        raise RuntimeError("[malloc] Unable to allocate 1 bytes.")

    answers = Answers(make_engine(fragile))
    submit_some(answers, count=5)
    give_trouble(monkeypatch, trouble)
    answers.finish(limit=100)
    assert len(answers.last) == 5
    assert all(isinstance(row.error, InternalError) for row in answers.last.values())
    give_trouble(monkeypatch, lambda tokens: None)
    answers.submit(99, prompt="a", max_tokens=5)
    answers.finish()
    assert len(answers.tokens[99]) == 5


@pytest.mark.parametrize("method", ["join", "settle", "queue", "read"])
@pytest.mark.parametrize("message", ["odd", "[malloc] no"])
def test_failure_that_does_not_come_again_costs_no_answer(
    make_engine: MakeEngine,
    fragile: LoadedModel,
    expected: Answers,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    message: str,
) -> None:
    answers = Answers(make_engine(fragile))
    submit_some(answers)
    answers.step(2)
    if method == "join":
        answers.submit(20, prompt="a", max_tokens=3)
    real = getattr(Lane, method)

    def fail_once(self: Lane, *arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(Lane, method, real)
        raise RuntimeError(message)

    monkeypatch.setattr(Lane, method, fail_once)
    answers.finish()
    assert getattr(Lane, method) is real
    assert {call: answers.tokens[call] for call in expected.tokens} == expected.tokens


def test_failure_while_a_prompt_is_awaited_ends_that_one(
    make_engine: MakeEngine, fragile: LoadedModel, expected: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(make_engine(fragile, prefill_chunk=16))
    submit_some(answers)
    answers.submit(20, prompt=[77] * 200, max_tokens=5)
    real = Group.states

    def states(self: Group) -> list[mx.array]:
        if any(reading.token_ids[-1] == 77 for reading in self.readings) and self._num_read > 20:
            raise ValueError("broken")
        return real(self)

    monkeypatch.setattr(Group, "states", states)
    answers.finish()
    error = answers.last[20].error
    assert isinstance(error, InternalError) and "broken" in error.message
    assert {call: answers.tokens[call] for call in expected.tokens} == expected.tokens


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_rows_go_on_unchanged_whatever_their_caches(
    make_engine: MakeEngine, fragile: LoadedModel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    other = replace(fragile, model=make_model(name))
    undisturbed, disturbed = Answers(make_engine(other)), Answers(make_engine(other, prefix_cache_bytes=0))
    real = Lane.queue

    def fail_sometimes(self: Lane) -> None:
        if disturbed.engine._num_steps in (9, 22) and len(self.jobs) > 1:
            raise ValueError("odd")
        real(self)

    submit_some(undisturbed, count=5)
    undisturbed.finish()
    monkeypatch.setattr(Lane, "queue", fail_sometimes)
    submit_some(disturbed, count=5)
    disturbed.finish()
    assert disturbed.tokens == undisturbed.tokens
    assert disturbed.engine._suspicion.limit < 64  # it did fail twice


def test_cancel_and_finish_of_suspects(
    make_engine: MakeEngine, fragile: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(make_engine(fragile))
    submit_some(answers, max_tokens=12)
    answers.step(3)
    real = Lane.queue

    def fail_once(self: Lane) -> None:
        monkeypatch.setattr(Lane, "queue", real)
        raise ValueError("odd")

    monkeypatch.setattr(Lane, "queue", fail_once)
    answers.step()
    assert len(answers.engine._suspicion._suspects) == 8
    answers.cancel(3)
    answers.finish()
    assert answers.last[3].usage is not None
    assert [len(answers.tokens[call]) for call in range(8) if call != 3] == [12] * 7
    assert not answers.engine._suspicion._suspects


def test_fault_of_the_engine_itself_ends_what_runs_and_spares_what_waits(
    make_engine: MakeEngine, fragile: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(make_engine(fragile, max_batch=2))
    for call in range(4):
        answers.submit(call, prompt=TEXTS[call], max_tokens=6)
    answers.step(2)
    real = Lanes.step

    def fail_once(self: Lanes, joining: Any, **_: Any) -> Any:
        monkeypatch.setattr(Lanes, "step", real)
        raise KeyError("a bug")

    monkeypatch.setattr(Lanes, "step", fail_once)
    answers.finish()
    assert [answers.last[call].error is not None for call in range(4)] == [True, True, False, False]
    assert len(answers.tokens[3]) == 6


def test_what_counts_as_lack_of_memory() -> None:
    assert is_out_of_memory(RuntimeError("[malloc] Unable to allocate 5 bytes."))
    assert is_out_of_memory(RuntimeError("[metal::malloc] Attempting to allocate 5 bytes"))
    assert is_out_of_memory(RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(ValueError("malloc"))
    assert not is_out_of_memory(RuntimeError("[matmul] shapes"))


def test_row_that_cannot_be_kept_for_later_prompts_costs_nothing_else(
    make_engine: MakeEngine, fragile: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(*arguments: Any) -> None:
        raise RuntimeError("[malloc] no memory")

    monkeypatch.setattr(PrefixCache, "leave", leave)
    answers = Answers(make_engine(fragile))
    answers.submit(1, prompt=TEXTS[0], max_tokens=3)
    answers.finish()
    answers.submit(2, prompt=TEXTS[1], max_tokens=300)
    answers.step(5)
    answers.cancel(2)
    answers.submit(3, prompt=TEXTS[0], max_tokens=3)
    answers.finish()
    assert answers.tokens[3] == answers.tokens[1] and len(answers.tokens[1]) == 3


@pytest.fixture
def failed_to_keep(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Of engines to come, the first row that leaves cannot be kept for later prompts; here it is then."""
    real, failed = PrefixCache.leave, list[Any]()

    def leave(*arguments: Any) -> None:
        if not failed:
            failed.append(arguments)
            raise RuntimeError("odd")
        real(*arguments)

    monkeypatch.setattr(PrefixCache, "leave", leave)
    return failed


@pytest.mark.parametrize("num_others", [1, 2])
def test_row_that_cannot_be_kept_costs_no_answer_beside_it(
    make_engine: MakeEngine, fragile: LoadedModel, num_others: int, failed_to_keep: list[Any]
) -> None:
    answers = Answers(make_engine(fragile))
    for call in range(1 + num_others):
        answers.submit(call, prompt=[5 + call] * 20, max_tokens=60 if call else 5)
    assert_as_alone(answers.finish(), Answers(make_engine(fragile)))
    assert failed_to_keep


def test_lane_that_fails_while_room_is_made_costs_no_answer(
    make_engine: MakeEngine, fragile: LoadedModel, failed_to_keep: list[Any]
) -> None:
    """Answers outgrow the memory, and what the one has that is to wait again cannot be kept."""
    kv_bytes = 5 * make_engine(fragile)._footprint.row_bytes(1)
    answers = Answers(make_engine(fragile, kv_bytes=kv_bytes, expected_tokens=16))
    for call in range(3):
        answers.submit(call, prompt=[5 + call] * 20, max_tokens=290)
    assert_as_alone(answers.finish(), Answers(make_engine(fragile)))
    assert failed_to_keep and answers.engine.stats()["preemptions_total"] > 0


def assert_as_alone(answers: Answers, alone: Answers) -> None:
    for call, request in answers.asked.items():
        alone.submit(call, **request)
        alone.finish()
        assert answers.last[call].error is None
        assert answers.tokens[call] == alone.tokens[call]


def test_prompts_that_are_read_again_do_not_count_as_cached(
    make_engine: MakeEngine, fragile: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Lane.join

    def fail_once(self: Lane, rows: Any) -> None:
        monkeypatch.setattr(Lane, "join", real)
        raise RuntimeError("odd")

    answers = Answers(make_engine(fragile))
    monkeypatch.setattr(Lane, "join", fail_once)
    for call in (1, 2):
        answers.submit(call, prompt=[call + 5] * 200, max_tokens=3)
    answers.finish()
    assert answers.engine.stats()["prefix_hits_total"] == 2, "the second time they were"
    for call in (1, 2):
        usage = answers.last[call].usage
        assert usage is not None and usage.cached_tokens == 0
