from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm import stream_generate
from mlx_lm.models import cache as mlx_lm_cache
from mlx_lm.models import llama

from mlxbridge.errors import ContextTooLong, InternalError, InvalidArgument, Overloaded
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import Engine, GenerateRequest
from mlxbridge.host.engine.lanes import Decoded, Lanes
from mlxbridge.host.engine.loader import LoadedModel, load
from mlxbridge.host.engine.prefill.prefill import Prefill, Progress
from mlxbridge.host.engine.text.detokenize import Detokenizer, Vocabulary
from tests.host.engine.tiny import TEXTS, Answers, byte_level_tokenizer, save_model, save_tokenizer

caches: Any = mlx_lm_cache
MakeEngine = Callable[..., BatchEngine]


def mlx_lm_tokens(loaded: LoadedModel, prompt: str | list[int], max_tokens: int) -> list[int]:
    """What mlx_lm generates by itself, without the ending EOS."""
    tokenizer, own = loaded.tokenizer, loaded.tokenizer.eos_token_ids
    tokenizer.eos_token_ids = loaded.eos_ids
    try:
        responses = stream_generate(loaded.model, tokenizer, prompt, max_tokens=max_tokens)
        return [response.token for response in responses if response.token not in loaded.eos_ids]
    finally:
        tokenizer.eos_token_ids = own


def decode(loaded: LoadedModel, tokens: list[int]) -> str:
    return str(loaded.tokenizer.decode(tokens, skip_special_tokens=True))


@pytest.fixture(scope="module")
def endless(loaded: LoadedModel) -> LoadedModel:
    """The tiny model without EOS, so that lengths are known."""
    return replace(loaded, eos_ids=frozenset())


@pytest.fixture
def free(make_engine: MakeEngine, endless: LoadedModel) -> Answers:
    return Answers(make_engine(endless))


def test_engine_is_an_engine(make_engine: MakeEngine) -> None:
    engine: Engine = make_engine()
    assert not engine.has_work
    assert engine.step() == []
    assert engine.describe()["architecture"] == "LlamaForCausalLM"


def test_greedy_alone_equals_mlx_lm(answers: Answers, loaded: LoadedModel) -> None:
    answers.submit(1, prompt=TEXTS[0], max_tokens=60)
    answers.finish()
    assert answers.tokens[1] == mlx_lm_tokens(loaded, TEXTS[0], 60)
    assert answers.texts[1] == decode(loaded, answers.tokens[1])


PROMPTS = [(text * (1 + 2 * (i % 3)))[: 150 - i] for i, text in enumerate(TEXTS * 2)]


@pytest.fixture(scope="module")
def told(loaded: LoadedModel) -> list[list[int]]:
    return [mlx_lm_tokens(loaded, prompt, 20 + 3 * i) for i, prompt in enumerate(PROMPTS)]


@pytest.mark.parametrize("options", [{}, {"prefill_chunk": 7}, {"max_batch": 3}, {"max_batch": 1}])
def test_greedy_in_a_changing_batch_equals_mlx_lm(
    make_engine: MakeEngine, told: list[list[int]], options: dict[str, int]
) -> None:
    answers = Answers(make_engine(**options))
    for i, prompt in enumerate(PROMPTS):
        answers.submit(i, prompt=prompt, max_tokens=20 + 3 * i)
        answers.submit(100 + i, prompt=prompt[::-1], max_tokens=50, temperature=1.0)
        answers.step(i % 4)
        if i % 3 == 0:
            answers.cancel(100 + i)
    answers.finish()
    assert [answers.tokens[i] for i in range(len(PROMPTS))] == told


def test_while_a_long_prompt_is_read_rows_join_in_steps_that_read_nothing(
    make_engine: MakeEngine, endless: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    num_read: list[int] = []
    joined: list[tuple[int, bool]] = []
    read, decode_step = Prefill.step, Lanes.step

    def prefill_step(self: Prefill, budget: int, **options: bool) -> Progress:
        progress = read(self, budget, **options)
        ended.append(len(progress.ready))
        num_read.append(progress.num_read)
        return progress

    def lanes_step(self: Lanes, joining: Any, **options: bool) -> Decoded:
        joined.append((len(joining), self.num_lanes > 0 and engine._prefill.is_busy))
        return decode_step(self, joining, **options)

    monkeypatch.setattr(Prefill, "step", prefill_step)
    monkeypatch.setattr(Lanes, "step", lanes_step)
    engine = make_engine(endless, prefill_chunk=16)
    answers = Answers(engine)
    answers.submit(0, prompt=TEXTS[0], max_tokens=200)
    answers.step(20)
    answers.submit(1, prompt=(TEXTS[1] * 30)[:2000], max_tokens=2)
    for call in (2, 3):
        answers.submit(call, prompt=TEXTS[call][:15], max_tokens=2)
        answers.step(10)
    beside = [number for number, (_, is_busy) in enumerate(joined) if is_busy]
    assert len(beside) >= 16
    assert [joined[number][0] for number in beside] == [ended[number - 1] for number in beside]
    assert all((num_read[number] == 0) == (joined[number][0] > 0) for number in beside)
    assert (
        sum(ended[number] for number in beside) == 2 and len(answers.tokens[2]) == len(answers.tokens[3]) == 2
    )
    answers.finish()


def test_greedy_quantized_equals_mlx_lm(make_engine: MakeEngine, tmp_path: Path) -> None:
    save_model(tmp_path, bits=4)
    save_tokenizer(byte_level_tokenizer(), tmp_path)
    quantized = load(tmp_path, "quantized")
    answers = Answers(make_engine(quantized))
    for i, text in enumerate(TEXTS):
        answers.submit(i, prompt=text, max_tokens=25)
        answers.step()
    answers.finish()
    for i, text in enumerate(TEXTS):
        assert answers.tokens[i] == mlx_lm_tokens(quantized, text, 25)


def test_seed_same_text_alone_and_in_a_batch(make_engine: MakeEngine, endless: LoadedModel) -> None:
    request = {
        "prompt": TEXTS[1],
        "max_tokens": 40,
        "temperature": 0.9,
        "top_p": 0.9,
        "min_p": 0.01,
        "top_k": 40,
    }
    alone = Answers(make_engine(endless))
    alone.submit(1, **request, seed=11)
    alone.finish()
    crowd = Answers(make_engine(endless))
    for i in range(6):
        crowd.submit(i, prompt=TEXTS[i] * 3, max_tokens=15 + i, temperature=0.3 * i)
        crowd.step()
    crowd.submit(10, **request, seed=11)
    crowd.submit(11, **request, seed=12)
    crowd.submit(12, **request)
    crowd.finish()
    assert crowd.tokens[10] == alone.tokens[1]
    assert crowd.texts[10] == alone.texts[1] == decode(endless, alone.tokens[1])
    assert len({tuple(crowd.tokens[i]) for i in (10, 11, 12)}) == 3


def test_text_is_whole_characters_and_complete(free: Answers, endless: LoadedModel) -> None:
    for i in range(8):
        free.submit(i, prompt=TEXTS[2], max_tokens=80, temperature=1.3, seed=i)
    free.finish()
    for i in range(8):
        assert free.texts[i] == decode(endless, free.tokens[i])


def test_length_counts_tokens(free: Answers) -> None:
    free.submit(1, prompt=TEXTS[0], max_tokens=1)
    free.submit(2, prompt=TEXTS[0], max_tokens=9)
    free.finish()
    for call, length in ((1, 1), (2, 9)):
        usage = free.last[call].usage
        assert usage is not None
        assert (usage.finish_reason, usage.completion_tokens, len(free.tokens[call])) == (
            "length",
            length,
            length,
        )


def test_eos_ends_and_is_counted_but_not_sent(make_engine: MakeEngine, endless: LoadedModel) -> None:
    tokens = mlx_lm_tokens(endless, TEXTS[0], 40)
    end = next(i for i in range(5, 40) if tokens[i] not in tokens[:i])
    answers = Answers(make_engine(replace(endless, eos_ids=frozenset({tokens[end]}))))
    answers.submit(1, prompt=TEXTS[0], max_tokens=40)
    answers.submit(2, prompt=TEXTS[0], max_tokens=end + 1)
    answers.finish()
    for call in (1, 2):
        usage = answers.last[call].usage
        assert usage is not None
        assert (usage.finish_reason, usage.stop_string, usage.completion_tokens) == ("stop", None, end + 1)
        assert answers.tokens[call] == tokens[:end]
        assert answers.texts[call] == decode(endless, tokens[:end])


def test_eos_gives_back_text_held_for_a_stop_string(make_engine: MakeEngine, endless: LoadedModel) -> None:
    tokens = mlx_lm_tokens(endless, TEXTS[0], 40)
    end = next(i for i in range(5, 40) if tokens[i] not in tokens[:i])
    text = decode(endless, tokens[:end])
    answers = Answers(make_engine(replace(endless, eos_ids=frozenset({tokens[end]}))))
    answers.submit(1, prompt=TEXTS[0], max_tokens=40, stop=(text[-3:] + "never",))
    answers.finish()
    assert answers.texts[1] == text


def test_stop_string_cuts_text_and_keeps_tokens(free: Answers, endless: LoadedModel) -> None:
    tokens = mlx_lm_tokens(endless, TEXTS[0], 40)
    text = decode(endless, tokens)
    stop = next(text[i : i + 4] for i in range(10, 60) if "\ufffd" not in text[i : i + 4])
    free.submit(1, prompt=TEXTS[0], max_tokens=40, stop=("not in there", stop))
    free.finish()
    usage = free.last[1].usage
    assert usage is not None
    assert (usage.finish_reason, usage.stop_string) == ("stop", stop)
    assert free.texts[1] == text[: text.index(stop)]
    sent = free.tokens[1]
    assert sent == tokens[: len(sent)] and usage.completion_tokens == len(sent)
    assert stop in decode(endless, sent) and stop not in decode(endless, sent[:-1])


def test_usage_times_add_up(free: Answers) -> None:
    free.submit(1, prompt=TEXTS[0], max_tokens=5)
    free.finish()
    usage = free.last[1].usage
    assert usage is not None
    assert usage.prompt_tokens == len(free.engine._loaded.tokenizer.encode(TEXTS[0]))
    assert usage.queue_seconds >= 0 and usage.prefill_seconds > 0 and usage.decode_seconds > 0


def test_cancel_frees_the_place_for_the_next_step(make_engine: MakeEngine, endless: LoadedModel) -> None:
    answers = Answers(make_engine(endless, max_batch=1))
    answers.submit(1, prompt=TEXTS[0], max_tokens=300)
    answers.submit(2, prompt=TEXTS[1], max_tokens=3)
    answers.step(5)
    counts = {"running": 1, "waiting": 1, "waiting_normal": 1, "steps_total": 5, "tokens_total": 4}
    assert answers.engine.stats().items() >= counts.items()
    answers.cancel(1)
    usage = answers.last[1].usage
    assert usage is not None and (usage.finish_reason, usage.completion_tokens) == ("cancelled", 4)
    assert answers.engine.stats()["running"] == 0
    answers.step()
    assert answers.engine.stats()["running"] == 1
    assert [lane.num_rows for lane in answers.engine._lanes._lanes] == [1]
    answers.finish()
    assert len(answers.tokens[2]) == 3


def test_cancel_at_every_stage(free: Answers, endless: LoadedModel) -> None:
    free.submit(0, prompt=TEXTS[0], max_tokens=30)
    for call in range(1, 7):
        free.submit(call, prompt=TEXTS[call % 6], max_tokens=30)
        free.step(call - 1)
        free.cancel(call)
        assert free.engine.cancel(call) is None
    free.finish()
    assert free.tokens[0] == mlx_lm_tokens(endless, TEXTS[0], 30)
    assert free.engine.cancel(99) is None


def test_ended_calls_leave_nothing_behind(free: Answers) -> None:
    for call in range(3):
        free.submit(call, prompt=TEXTS[call], max_tokens=4)
    free.step(2)
    free.cancel(0)
    free.finish()
    assert free.engine._lanes.num_lanes == 0 and not free.engine._prefill._groups
    assert free.engine.stats()["running"] == free.engine.stats()["waiting"] == 0


def test_submit_over_the_bound_is_overloaded(make_engine: MakeEngine) -> None:
    answers = Answers(make_engine(max_batch=2, max_waiting=1))
    for call in range(3):
        answers.submit(call, prompt="a", max_tokens=5)
    with pytest.raises(Overloaded) as caught:
        answers.submit(3, prompt="a", max_tokens=5)
    assert caught.value.retry_after and caught.value.retryable
    answers.cancel(0)
    answers.submit(3, prompt="a", max_tokens=5)
    answers.finish()


def test_submit_refused_is_not_queued(answers: Answers) -> None:
    with pytest.raises(InvalidArgument):
        answers.submit(1, prompt="a", max_tokens=0)
    with pytest.raises(ContextTooLong):
        answers.submit(1, prompt="a", max_tokens=512)
    assert not answers.engine.has_work
    answers.submit(1, prompt="a", max_tokens=2)
    with pytest.raises(ValueError, match="call 1 is open"):
        answers.submit(1, prompt="a")
    answers.finish()


def test_without_max_tokens_the_context_is_filled(free: Answers) -> None:
    free.submit(1, prompt=[5] * 400)
    free.finish()
    usage = free.last[1].usage
    assert usage is not None and (usage.finish_reason, usage.completion_tokens) == ("length", 112)


def fail_on(token: int, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model raises whenever it is to read a prompt with this token."""
    real = type(model).__call__

    def picky(self: Any, inputs: mx.array, **options: Any) -> Any:
        if inputs.shape[1] > 1 and bool(mx.any(inputs == token).item()):
            raise RuntimeError("indigestible")
        return real(self, inputs, **options)

    monkeypatch.setattr(type(model), "__call__", picky)


def test_prompt_that_fails_ends_its_row_alone(
    free: Answers, endless: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = {1: [5] * 20, 2: [5] * 9 + [99] + [5] * 10, 3: [6] * 20}
    expected = {call: mlx_lm_tokens(endless, prompts[call], 10) for call in (1, 3)}
    fail_on(99, endless.model, monkeypatch)
    for call, prompt in prompts.items():
        free.submit(call, prompt=prompt, max_tokens=10)
    free.finish()
    error = free.last[2].error
    assert isinstance(error, InternalError) and "indigestible" in error.message
    assert {call: free.tokens[call] for call in (1, 3)} == expected


def test_detokenizer_failure_ends_its_row_alone(free: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Vocabulary.detokenizer

    def broken(self: Vocabulary, **options: bool) -> Detokenizer:
        detokenizer = real(self, **options)
        monkeypatch.setattr(detokenizer, "push", lambda token: 1 / 0)
        return detokenizer

    with monkeypatch.context() as patch:
        patch.setattr(Vocabulary, "detokenizer", broken)
        free.submit(1, prompt=TEXTS[0], max_tokens=10)
    free.submit(2, prompt=TEXTS[1], max_tokens=10)
    free.finish()
    assert isinstance(free.last[1].error, InternalError)
    assert len(free.tokens[2]) == 10


def test_prefill_beside_running_answers_is_bounded(
    make_engine: MakeEngine, endless: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = type(endless.model).__call__

    def watch(self: Any, inputs: mx.array, **options: Any) -> Any:
        sizes.append(inputs.size)
        return real(self, inputs, **options)

    answers = Answers(make_engine(endless, prefill_chunk=64))
    answers.submit(0, prompt="a", max_tokens=200)
    answers.step(4)
    monkeypatch.setattr(type(endless.model), "__call__", watch)
    for call in range(1, 11):
        answers.submit(call, prompt=[7] * 300, max_tokens=2)
    before = len(answers.tokens[0])
    answers.step(60)
    assert max(sizes) <= 64
    assert len(answers.tokens[0]) - before == 60


def test_model_that_cannot_be_batched_takes_turns(
    make_engine: MakeEngine, endless: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(caches.KVCache):  # type: ignore[misc]
        """A cache that nobody has a batched form of."""

    monkeypatch.setattr(
        type(endless.model), "make_cache", lambda self: [Other() for _ in self.layers], raising=False
    )
    answers = Answers(make_engine(endless))
    assert answers.engine.describe()["batched"] is False
    for call in range(4):
        answers.submit(call, prompt=TEXTS[call], max_tokens=12, temperature=0.7 * (call % 2), seed=call)
        answers.step(2)
    assert answers.engine._lanes.num_lanes == 4
    answers.finish()
    monkeypatch.undo()
    batched = Answers(make_engine(endless))
    assert batched.engine.describe()["batched"] is True
    for call in range(4):
        batched.submit(call, prompt=TEXTS[call], max_tokens=12, temperature=0.7 * (call % 2), seed=call)
    assert batched.finish().tokens == answers.tokens


def test_model_that_mixes_rows_is_not_given_prompts_side_by_side(
    make_engine: MakeEngine, endless: LoadedModel
) -> None:
    class Mixing(llama.Model):
        def __call__(self, inputs: mx.array, *arguments: Any, **options: Any) -> Any:
            return super().__call__((inputs + inputs[:1]) // 2, *arguments, **options)

    model = Mixing(endless.model.args)
    model.update(endless.model.parameters())
    answers = Answers(make_engine(replace(endless, model=model)))
    assert answers.engine.describe()["batched"] is False
    for call in range(3):
        answers.submit(call, prompt=[call + 5] * 30, max_tokens=12)
    answers.finish()
    for call in range(3):
        alone = Answers(make_engine(replace(endless, model=model)))
        alone.submit(call, prompt=[call + 5] * 30, max_tokens=12)
        assert alone.finish().tokens[call] == answers.tokens[call]


def test_requests_are_not_mixed_up(free: Answers, endless: LoadedModel) -> None:
    for call in range(40):
        free.submit(call, prompt=TEXTS[call % 6], max_tokens=1 + call % 7)
    free.finish()
    for call in range(40):
        assert free.tokens[call] == mlx_lm_tokens(endless, TEXTS[call % 6], 7)[: 1 + call % 7]


def test_many_rows_more_than_the_batch(make_engine: MakeEngine, endless: LoadedModel) -> None:
    engine = make_engine(endless, max_batch=4)
    for call in range(12):
        engine.submit(call, GenerateRequest(prompt="a b", max_tokens=5))
    widest = 0
    while engine.has_work:
        widest = max(widest, len(engine.step()))
    assert widest == 4


def test_a_new_lane_waits_for_a_step_that_reads_nothing(
    make_engine: MakeEngine, endless: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(make_engine(endless))
    answers.engine._lanes._lane_bytes = 1  # so that any padding opens a lane
    num_passes, forward = [0], type(endless.model).__call__

    def count(*arguments: Any, **named: Any) -> Any:
        num_passes[-1] += 1
        return forward(*arguments, **named)

    monkeypatch.setattr(type(endless.model), "__call__", count)
    short, long = list(range(3, 9)), list(range(3, 303))
    answers.submit(0, prompt=short, max_tokens=100)
    answers.step(3)
    answers.submit(1, prompt=long, max_tokens=5)
    while not answers.tokens.get(1):
        num_passes.append(0)
        answers.step()
    assert answers.engine._lanes.num_lanes == 2
    assert max(num_passes[1:]) == 2, "a piece and a lane, or two lanes"
    answers.finish()
    assert answers.tokens[1] == mlx_lm_tokens(endless, long, 5)
