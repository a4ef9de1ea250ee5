"""Answers stay exact when prompts begin with cached tokens; the cache keeps to its budget, and gives memory back."""

from __future__ import annotations

import gc
import random
import resource
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest

from mlxbridge.errors import InternalError
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import EngineLimits, GenerateRequest, Origin
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.prefixes import prefix_cache
from mlxbridge.host.engine.prefixes.prefix_cache import BLOCK_TOKENS
from tests.host.engine.architectures import ARCHITECTURES, ONE_OF_A_KIND, TOKEN_BYTES, make_model
from tests.host.engine.reference import assert_greedy
from tests.host.engine.tiny import Answers, num_cached, tokens

CUTTABLE = {"llama", "qwen3", "qwen3_moe", "llama 4 bit"}


@pytest.fixture(scope="module", params=[*ARCHITECTURES, "llama 4 bit"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def other(loaded: LoadedModel, name: str) -> LoadedModel:
    return endless(loaded, name)


@pytest.fixture(scope="module", params=ONE_OF_A_KIND)
def one_of_a_kind(loaded: LoadedModel, request: pytest.FixtureRequest) -> LoadedModel:
    return endless(loaded, request.param)


@pytest.fixture(scope="module")
def llama(loaded: LoadedModel) -> LoadedModel:
    return endless(loaded, "llama")


@pytest.fixture(scope="module")
def mamba(loaded: LoadedModel) -> LoadedModel:
    return endless(loaded, "mamba")


def endless(loaded: LoadedModel, name: str) -> LoadedModel:
    kind, _, bits = name.partition(" ")
    model = make_model(kind, bits=4 if bits else None)
    return replace(loaded, model=model, eos_ids=frozenset(), config={}, context_length=None)


def blocks(length: int) -> int:
    return length - length % BLOCK_TOKENS


def watch_model(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of all prompts' chunks from now on."""
    shapes: list[tuple[int, ...]] = []
    real = type(model).__call__

    def watch(self: Any, inputs: mx.array, **options: Any) -> Any:
        if inputs.shape[1] > 1:
            shapes.append(inputs.shape)
        return real(self, inputs, **options)

    monkeypatch.setattr(type(model), "__call__", watch)
    return shapes


def test_hits_of_every_kind_equal_alone(other: LoadedModel, name: str) -> None:
    answers = Answers(BatchEngine(other, EngineLimits(prefill_chunk=37)))
    first = tokens(1, 200)
    asked = {
        1: first,
        2: first,
        3: first + tokens(2, 30),
        4: first[:150] + tokens(3, 20),
        5: first[:150] + tokens(4, 90),
        6: first[:40],
        7: first[:150] + tokens(5, 1),
    }
    for call, prompt in asked.items():
        answers.submit(call, prompt=prompt, max_tokens=15)
        answers.finish()
    assert_greedy(answers, other.model)
    hits = [num_cached(answers, call) for call in asked]
    if name in CUTTABLE:
        assert hits == [0, 192, 192, 128, 128, 0, 128]
    else:
        # Whole states: of the whole first prompt, and from the second time on where others began to differ.
        assert hits == [0, 199, 199, 0, 128, 0, 128]


def test_chat_of_three_turns_hits_all_history(one_of_a_kind: LoadedModel) -> None:
    answers = Answers(BatchEngine(one_of_a_kind))
    cuts = answers.engine._prefixes.can_cut
    history, known = tokens(1, 100), 0
    for turn in range(3):
        answers.submit(turn, prompt=history, max_tokens=70)
        answers.finish()
        assert num_cached(answers, turn) == (blocks(known) if cuts else known)
        # The last token of an answer was never fed, so it is in no cache.
        known = len(history) + 69
        history = history + answers.tokens[turn] + tokens(turn + 9, 30)
    assert_greedy(answers, one_of_a_kind.model)
    stats = answers.engine.stats()
    assert stats["prefix_hits_total"] == 2
    assert stats["prefix_tokens_reused_total"] == sum(num_cached(answers, turn) for turn in range(3))


def test_chats_side_by_side_hit_all_history(one_of_a_kind: LoadedModel) -> None:
    answers = Answers(BatchEngine(one_of_a_kind))
    asked = [tokens(call, 70 + 9 * call) for call in range(3)]
    for call, prompt in enumerate(asked):
        answers.submit(call, prompt=prompt, max_tokens=70 + 5 * call)
        answers.step(call)
    answers.finish()
    for call, prompt in enumerate(asked):
        history = prompt + answers.tokens[call]
        answers.submit(10 + call, prompt=history + tokens(20 + call, 9), max_tokens=10)
    answers.finish()
    assert_greedy(answers, one_of_a_kind.model)
    cuts = answers.engine._prefixes.can_cut
    for call, prompt in enumerate(asked):
        history = prompt + answers.tokens[call]
        # Of the last answer to end, the last token was never fed.
        known = blocks(len(history) - 1) if cuts else len(history) - (call == 2)
        assert num_cached(answers, 10 + call) == known


def test_coming_and_going_with_shared_beginnings_equals_alone(other: LoadedModel) -> None:
    engine = BatchEngine(other)
    come_and_go(engine, other.model, seed=1)
    assert engine.stats()["prefix_hits_total"] > 3


@pytest.mark.parametrize(
    ("seed", "limits"),
    [
        (2, EngineLimits(prefill_chunk=24, max_batch=6, prefix_cache_bytes=300_000)),
        (3, EngineLimits(prefill_chunk=80, max_batch=3, prefix_cache_bytes=80_000)),
    ],
)
def test_coming_and_going_while_prefixes_are_evicted_equals_alone(
    one_of_a_kind: LoadedModel, seed: int, limits: EngineLimits
) -> None:
    come_and_go(BatchEngine(one_of_a_kind, limits), one_of_a_kind.model, seed=seed)


def come_and_go(engine: BatchEngine, model: Any, *, seed: int) -> None:
    chance = random.Random(seed)
    answers = Answers(engine)
    stems = [tokens(50 + i, 160) for i in range(3)]
    asked = []
    for _ in range(16):
        stem = chance.choice(stems)
        length = chance.choice([10, 64, 65, 100, 129, 160])
        asked.append(stem[:length] + chance.choice([[], [5], tokens(length, 40)]))
    lengths = [chance.choice([1, 2, 12, 80]) for _ in asked]
    for call, prompt in enumerate(asked):
        answers.submit(call, prompt=prompt, max_tokens=lengths[call])
        answers.step(chance.choice([0, 0, 1, 3, 40]))
        if chance.random() < 0.25 and call not in answers.last:
            answers.cancel(call)
        stats = engine.stats()
        assert stats["prefix_cache_bytes"] <= stats["prefix_cache_budget"]
    answers.finish()
    assert_greedy(answers, model)


def test_rows_that_run_one_by_one_hit_too(
    llama: LoadedModel, mamba: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlxbridge.host.engine.batch.is_exact_in_batches", lambda *_: False)
    for model in (llama, mamba):
        answers = Answers(BatchEngine(model))
        prompt = tokens(1, 130)
        for call in range(4):
            answers.submit(call, prompt=prompt if call % 2 else prompt[:100], max_tokens=70)
            answers.step(call * 40)
        answers.finish()
        answers.submit(9, prompt=prompt + answers.tokens[3] + [7], max_tokens=5)
        answers.finish()
        assert_greedy(answers, model.model)
        assert num_cached(answers, 9) == (199 if model is mamba else 192)


def test_use_leaves_what_is_stored_as_it_is(one_of_a_kind: LoadedModel) -> None:
    engine = BatchEngine(one_of_a_kind)
    answers = Answers(engine)
    prompt = tokens(1, 140)
    answers.submit(0, prompt=prompt, max_tokens=1)
    answers.finish()

    before = [(part, values(part)) for node in stored(engine) for part in arrays(node.content)]
    assert before
    for call in range(1, 4):
        answers.submit(call, prompt=prompt, max_tokens=40)
        answers.step(call)
    answers.submit(
        4, prompt=[*prompt, 7], max_tokens=4
    )  # reads one token, which sliding windows write in place
    answers.finish()
    assert [values(part) for part, _ in before] == [was for _, was in before]


def stored(engine: BatchEngine) -> list[Any]:
    return list(engine._prefixes._tree._order)


def values(part: mx.array) -> Any:
    return part.astype(mx.float32).tolist()


def arrays(content: Any) -> Iterator[mx.array]:
    if isinstance(content, list):
        for each in content:
            yield from arrays(each)
    elif content is not None:
        yield content


def active_bytes() -> int:
    gc.collect()
    mx.synchronize()
    mx.clear_cache()
    return int(mx.get_active_memory())


# What else a test makes, and by how much an array's buffer may be larger than the array: MLX reuses buffers that fit
# within two pages.
SLACK = 16_384
PER_ARRAY = 2 * resource.getpagesize()


def num_arrays(engine: BatchEngine) -> int:
    return sum(1 for node in stored(engine) for _ in arrays(node.content))


def test_stored_bytes_are_all_that_stays(one_of_a_kind: LoadedModel) -> None:
    engine = BatchEngine(one_of_a_kind)
    answers = Answers(engine)
    before = active_bytes()
    for call in range(6):
        answers.submit(call, prompt=tokens(call % 4, 70 + 50 * call), max_tokens=70 + call)
        answers.step(call)
    answers.finish()
    counted = engine.stats()["prefix_cache_bytes"]
    assert counted > 50_000
    assert counted - SLACK <= active_bytes() - before <= counted + SLACK + PER_ARRAY * num_arrays(engine)
    engine._prefixes.clear()
    assert engine.stats()["prefix_cache_bytes"] == 0
    assert active_bytes() - before <= SLACK


def test_block_of_one_head_keeps_no_buffer_alive() -> None:
    """A part of a buffer with one head is contiguous as it is; it is copied all the same."""
    buffer = mx.zeros((1, 1, 50_000, 32))
    mx.eval(buffer)
    before = active_bytes() - buffer.nbytes
    part = mx.contiguous(buffer[:, :, 64:128])
    mx.eval(part)
    del buffer
    assert active_bytes() - before <= part.nbytes + SLACK


def test_eviction_keeps_real_memory_below_the_budget(one_of_a_kind: LoadedModel) -> None:
    budget = 50_000
    engine = BatchEngine(one_of_a_kind, EngineLimits(prefix_cache_bytes=budget))
    answers = Answers(engine)
    before = active_bytes()
    answers.submit(100, prompt=tokens(100, 300), max_tokens=1)
    answers.finish()
    assert active_bytes() - before <= budget + SLACK + PER_ARRAY * num_arrays(engine)
    for call in range(9):
        answers.submit(call, prompt=tokens(call, 150), max_tokens=8)
        answers.finish()
        assert engine.stats()["prefix_cache_bytes"] <= budget
        assert active_bytes() - before <= budget + SLACK + PER_ARRAY * num_arrays(engine)
    assert engine.stats()["prefix_cache_bytes"] > budget / 3
    answers.submit(99, prompt=tokens(8, 150), max_tokens=5)
    answers.submit(98, prompt=tokens(0, 150), max_tokens=5)
    answers.finish()
    assert num_cached(answers, 99) > 0 and num_cached(answers, 98) == 0


def test_scopes_never_hit_each_other(llama: LoadedModel, mamba: LoadedModel) -> None:
    for model in (llama, mamba):
        answers = Answers(BatchEngine(model))
        prompt = tokens(1, 150)
        for call, scope in enumerate(["", "a", "b", "a", ""]):
            answers.engine.submit(
                call, GenerateRequest(prompt=prompt, max_tokens=3), Origin(cache_scope=scope)
            )
            answers.finish()
        whole = 149 if model is mamba else 128
        assert [num_cached(answers, call) for call in range(5)] == [0, 0, 0, whole, whole]
        assert len({tuple(told) for told in answers.tokens.values()}) == 1


def test_equal_prompts_of_two_scopes_are_read_twice(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(BatchEngine(llama))
    shapes = watch_model(llama.model, monkeypatch)
    for call, scope in enumerate("ab"):
        request = GenerateRequest(prompt=tokens(1, 100), max_tokens=3)
        answers.engine.submit(call, request, Origin(cache_scope=scope))
    answers.finish()
    assert sum(rows * columns for rows, columns in shapes) == 2 * 99
    assert [num_cached(answers, call) for call in range(2)] == [0, 0]


def test_model_that_remembers_outside_its_caches_gets_no_prefix_cache(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgetful = endless(loaded, "llama")
    real = type(forgetful.model).__call__

    def remember(self: Any, inputs: mx.array, cache: Any = None, **options: Any) -> Any:
        """Where a prompt began, as models of several kinds of positions do."""
        if cache[0].offset == 0:
            self.first = inputs.shape[1]
        return real(self, inputs, cache=cache, **options) + mx.arange(384) * (self.first % 7)

    monkeypatch.setattr(type(forgetful.model), "__call__", remember)
    stats = BatchEngine(forgetful).stats()
    assert stats["prefix_cache_budget"] == 0
    monkeypatch.undo()
    assert BatchEngine(forgetful).stats()["prefix_cache_budget"] > 0


def test_budget_of_nothing_stores_nothing(llama: LoadedModel) -> None:
    answers = Answers(BatchEngine(llama, EngineLimits(prefix_cache_bytes=0)))
    for call in range(2):
        answers.submit(call, prompt=tokens(1, 150), max_tokens=70)
        answers.finish()
        assert num_cached(answers, call) == 0
    assert {value for key, value in answers.engine.stats().items() if key.startswith("prefix")} == {0}


@pytest.mark.parametrize("budget", [None, 0])
def test_equal_prompts_are_read_once(
    one_of_a_kind: LoadedModel, monkeypatch: pytest.MonkeyPatch, budget: int | None
) -> None:
    prompt = tokens(1, 150)
    answers = Answers(BatchEngine(one_of_a_kind, EngineLimits(prefill_chunk=40, prefix_cache_bytes=budget)))
    answers.submit(100, prompt=tokens(9, 3), max_tokens=200)
    answers.step(3)
    shapes = watch_model(one_of_a_kind.model, monkeypatch)
    for call in range(5):
        answers.submit(call, prompt=prompt, max_tokens=30, temperature=0.9 * (call == 2), seed=call)
        answers.step(call == 0)
    answers.submit(5, prompt=prompt[:-1] + [4], max_tokens=30)
    answers.step()
    assert 0 < sum(columns for _, columns in shapes) < 149
    answers.cancel(0)  # for whom it is being read
    answers.submit(6, prompt=prompt, max_tokens=30)
    answers.cancel(3)
    answers.step(40)
    assert sum(rows * columns for rows, columns in shapes) == 149
    answers.finish()
    assert_greedy(answers, one_of_a_kind.model, (1, 4, 5, 6))
    assert all(num_cached(answers, call) == 149 for call in (1, 4, 6))
    assert answers.tokens[2] != answers.tokens[1] and len(answers.tokens[2]) == 30


def test_seeds_of_equal_prompts_are_as_alone(llama: LoadedModel) -> None:
    request: dict[str, Any] = {"prompt": tokens(1, 90), "max_tokens": 20, "temperature": 1.0}
    together, alone = (
        Answers(BatchEngine(llama)),
        Answers(BatchEngine(llama, EngineLimits(prefix_cache_bytes=0))),
    )
    for call in range(4):
        together.submit(call, **request, seed=call)
        alone.submit(call, **request, seed=call)
        alone.finish()
    together.finish()
    assert together.tokens == alone.tokens
    assert len({tuple(told) for told in together.tokens.values()}) == 4


def test_prompt_that_fails_fails_for_all_that_have_it_and_nobody_else(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = tokens(1, 100), [*tokens(1, 80), 2, *tokens(2, 19)]
    real = type(llama.model).__call__

    def picky(self: Any, inputs: mx.array, **options: Any) -> Any:
        if inputs.shape[1] > 1 and bool(mx.any(inputs == 2).item()):
            raise RuntimeError("indigestible")
        return real(self, inputs, **options)

    monkeypatch.setattr(type(llama.model), "__call__", picky)
    answers = Answers(BatchEngine(llama))
    for call, prompt in enumerate([good, bad, good, bad]):
        answers.submit(call, prompt=prompt, max_tokens=8)
    answers.finish()
    monkeypatch.undo()
    assert_greedy(answers, llama.model, (0, 2))
    assert all(isinstance(answers.last[call].error, InternalError) for call in (1, 3))


def test_beginnings_that_are_being_read_are_waited_for(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    stem = tokens(1, 140)
    asked = [stem + tokens(10 + call, 30 + call) for call in range(5)]
    answers = Answers(BatchEngine(llama))
    shapes = watch_model(llama.model, monkeypatch)
    for call, prompt in enumerate(asked):
        answers.submit(call, prompt=prompt, max_tokens=10)
    answers.finish()
    # The four that waited are read side by side, from where what they share ends.
    assert sorted(rows for rows, _ in shapes)[-1] == 4
    assert sorted(num_cached(answers, call) for call in range(5)) == [0, 128, 128, 128, 128]
    assert_greedy(answers, llama.model)


def test_reader_that_is_cancelled_leaves_those_that_wait_for_it(llama: LoadedModel) -> None:
    stem = tokens(1, 300)
    answers = Answers(BatchEngine(llama, EngineLimits(prefill_chunk=16)))
    answers.submit(9, prompt=[3], max_tokens=300)
    answers.step(2)
    for call in range(3):
        answers.submit(call, prompt=stem + tokens(call, 20), max_tokens=4)
    answers.step(3)
    answers.cancel(0)
    answers.finish()
    assert_greedy(answers, llama.model, (1, 2))


def test_prompt_is_read_for_the_first_that_still_waits_for_it(llama: LoadedModel) -> None:
    answers = Answers(BatchEngine(llama))
    for call in range(3):
        answers.submit(call, prompt=tokens(1, 100), max_tokens=4)
    answers.engine._admit()
    answers.cancel(0)
    answers.finish()
    assert [num_cached(answers, call) for call in (1, 2)] == [0, 99]


def test_stem_seen_twice_is_kept_for_states(mamba: LoadedModel) -> None:
    answers = Answers(BatchEngine(mamba))
    stem = tokens(1, 140)
    for call in range(4):
        answers.submit(call, prompt=stem + tokens(10 + call, 50), max_tokens=2)
        answers.finish()
    assert [num_cached(answers, call) for call in range(4)] == [0, 0, 128, 128]


def test_what_cannot_be_computed_is_not_stored(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = BatchEngine(llama)
    answers = Answers(engine)
    answers.submit(0, prompt=tokens(1, 150), max_tokens=3)
    answers.finish()
    assert engine.stats()["prefix_cache_bytes"] > 0
    real = mx.eval

    def full(*what: Any) -> None:
        if (
            engine._prefixes.pending == []
            and what
            and isinstance(what[0], list)
            and isinstance(what[0][0], list)
        ):
            raise RuntimeError("[malloc] out of memory")
        real(*what)

    monkeypatch.setattr(mx, "eval", full)
    answers.submit(1, prompt=tokens(2, 150), max_tokens=3)
    answers.finish()
    assert engine.stats()["prefix_cache_bytes"] == 0
    assert_greedy(answers, llama.model)


def test_answers_that_leave_are_stored_only_as_far_as_a_step_allows(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(BatchEngine(llama))
    monkeypatch.setattr(prefix_cache, "MAX_LEAVING_BYTES", 100 * TOKEN_BYTES)
    prompt = tokens(1, 65)
    answers.submit(0, prompt=prompt, max_tokens=200)
    answers.finish()
    answers.submit(1, prompt=prompt + answers.tokens[0], max_tokens=1)
    answers.finish()
    assert num_cached(answers, 1) == 128
