"""A window with attention sinks: answers equal mlx_lm's on its rotating cache, token by token, in bounded memory."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import make_prompt_cache

from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.caches.cache_plan import CachePlan, Window
from mlxbridge.host.engine.caches.caches import RotatingKVCache
from mlxbridge.host.engine.caches.footprint import measure_footprint
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.engine.loader import LoadedModel
from tests.host.engine.architectures import make_model
from tests.host.engine.tiny import Answers, num_cached, tokens


@pytest.fixture(scope="module")
def llama(loaded: LoadedModel) -> LoadedModel:
    return of_kind(loaded, "llama")


def of_kind(loaded: LoadedModel, name: str) -> LoadedModel:
    return replace(loaded, model=make_model(name), eos_ids=frozenset(), config={}, context_length=512)


def expected(
    model: Any, prompt: list[int], max_tokens: int, *, window: int, sinks: int, piece: int = 1
) -> list[int]:
    """What mlx_lm's own loop draws with its rotating cache.

    It reads a prompt in pieces, and hides the sinks from all tokens of one but the first: only if each piece has one token
    does each token see what it sees later.
    """
    caches = [RotatingKVCache(max_size=window, keep=sinks) for _ in make_prompt_cache(model)]
    steps = generate_step(
        mx.array(prompt), model, max_tokens=max_tokens, prompt_cache=caches, prefill_step_size=piece
    )
    return [int(token) for token, _ in steps]


LENGTHS = (1, 2, 7, 7, 8, 23, 24, 25, 31, 90)


@pytest.mark.parametrize(
    ("kind", "window", "sinks"),
    [("llama", 24, 4), ("llama", 24, 0), ("llama", 8, 4), ("llama", 2, 1), ("qwen3", 24, 4)],
)
def test_together_equals_mlx_lms_rotating_cache(
    loaded: LoadedModel, kind: str, window: int, sinks: int
) -> None:
    model = of_kind(loaded, kind)
    engine = BatchEngine(model, EngineLimits(kv_window=window, kv_sinks=sinks, prefill_chunk=9))
    assert engine.describe()["batched"] is True
    answers, asked = Answers(engine), [tokens(length, length) for length in LENGTHS]
    for call, prompt in enumerate(asked):
        answers.submit(call, prompt=prompt, max_tokens=35)
        answers.step(call % 3)
    answers.finish()
    for call, prompt in enumerate(asked):
        told = expected(model.model, prompt, 35, window=window, sinks=sinks)
        assert answers.tokens[call] == told, len(prompt)
    assert len({token for drawn in answers.tokens.values() for token in drawn}) > 12


def test_pieces_of_any_length_equal_mlx_lms_where_there_are_no_sinks(llama: LoadedModel) -> None:
    answers = Answers(BatchEngine(llama, EngineLimits(kv_window=24, kv_sinks=0)))
    for call, length in enumerate(LENGTHS):
        prompt = tokens(length, length)
        answers.submit(call, prompt=prompt, max_tokens=30)
        answers.finish()
        assert answers.tokens[call] == expected(llama.model, prompt, 30, window=24, sinks=0, piece=2048)


def test_prompts_within_the_window_equal_mlx_lms_in_one_piece(llama: LoadedModel) -> None:
    answers = Answers(BatchEngine(llama, EngineLimits(kv_window=64)))
    for call, length in enumerate((1, 3, 40, 64)):
        prompt = tokens(length, length)
        answers.submit(call, prompt=prompt, max_tokens=90)
        answers.finish()
        assert answers.tokens[call] == expected(llama.model, prompt, 90, window=64, sinks=4, piece=2048)


@pytest.mark.parametrize(("seed", "chunk", "max_batch"), [(2, 512, 64), (3, 5, 6), (4, 11, 3)])
def test_coming_and_going_equals_mlx_lms(llama: LoadedModel, seed: int, chunk: int, max_batch: int) -> None:
    chance = random.Random(seed)
    limits = EngineLimits(kv_window=40, prefill_chunk=chunk, max_batch=max_batch)
    answers = Answers(BatchEngine(llama, limits))
    stem = tokens(9, 150)
    asked = [stem[: chance.choice([1, 3, 30, 80, 150])] + tokens(call, call % 5) for call in range(10)]
    lengths = [chance.choice([1, 12, 70]) for _ in asked]
    for call, prompt in enumerate(asked):
        answers.submit(call, prompt=prompt, max_tokens=lengths[call])
        answers.step(chance.choice([0, 0, 1, 3, 40]))
        if chance.random() < 0.25 and call not in answers.last:
            answers.cancel(call)
    answers.finish()
    for call, prompt in enumerate(asked):
        got = answers.tokens.get(call, [])
        told = expected(llama.model, prompt, lengths[call], window=40, sinks=4)
        assert got == told[: len(got)]
        usage = answers.last[call].usage
        assert usage is not None and (len(got) == lengths[call] or usage.finish_reason == "cancelled")


def test_an_endless_answer_takes_bounded_memory(llama: LoadedModel) -> None:
    """Of a model that was made for 128 tokens."""
    engine = BatchEngine(replace(llama, context_length=128), EngineLimits(kv_window=64, kv_bytes=4 << 20))
    answers = Answers(engine)
    answers.submit(0, prompt=tokens(1, 150), max_tokens=200)
    answers.submit(1, prompt=tokens(2, 10), max_tokens=200)
    answers.step(80)
    used = engine.stats()["kv_bytes_used"]
    footprint = measure_footprint(CachePlan(llama.model, window=Window(64, 4)))
    assert used == 2 * footprint.most_fixed_bytes
    for _ in range(100):
        answers.step()
        stats = engine.stats()
        assert stats["kv_bytes_used"] == used
        assert stats["kv_bytes_projected"] == 2 * footprint.most_fixed_bytes
    answers.finish()
    assert answers.tokens[1] == expected(llama.model, tokens(2, 10), 200, window=64, sinks=4)


def test_what_is_said_of_the_model(llama: LoadedModel) -> None:
    plain = BatchEngine(llama).describe()
    assert (plain["kv_window"], plain["kv_sinks"], plain["context_length"]) == (None, None, 512)
    about = BatchEngine(llama, EngineLimits(kv_window=64)).describe()
    assert (about["kv_window"], about["kv_sinks"]) == (64, 4)
    assert about["context_length"] is None, "no prompt is too long"
    bounded = BatchEngine(replace(llama, max_context=100), EngineLimits(kv_window=64))
    assert bounded.describe()["context_length"] == 100, "unless the host says so"
    assert about["kv_bytes_per_token"] == 0, "once the window is full"
    assert about["kv_bytes_fixed"] == 64 * plain["kv_bytes_per_token"]


def test_a_chat_that_outgrew_its_window_hits_its_history(llama: LoadedModel) -> None:
    answers = Answers(BatchEngine(llama, EngineLimits(kv_window=48)))
    history, known = tokens(1, 100), 0
    for turn in range(3):
        answers.submit(turn, prompt=history, max_tokens=70)
        answers.finish()
        assert answers.tokens[turn] == expected(llama.model, history, 70, window=48, sinks=4)
        assert num_cached(answers, turn) == known
        known = len(history) + 69
        history = history + answers.tokens[turn] + tokens(turn + 9, 30)


def test_rows_that_run_one_by_one_equal_mlx_lms(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlxbridge.host.engine.batch.is_exact_in_batches", lambda *_: False)
    answers = Answers(BatchEngine(llama, EngineLimits(kv_window=24)))
    for call, length in enumerate((3, 40, 90)):
        answers.submit(call, prompt=tokens(call, length), max_tokens=40)
    answers.finish()
    for call, length in enumerate((3, 40, 90)):
        assert answers.tokens[call] == expected(llama.model, tokens(call, length), 40, window=24, sinks=4)


def test_calls_that_lost_their_memory_go_on_as_if_nothing_had_happened(llama: LoadedModel) -> None:
    row = measure_footprint(CachePlan(llama.model, window=Window(300, 4))).row_bytes(1)
    limits = EngineLimits(kv_window=300, kv_bytes=3 * row, expected_tokens=4, prefix_cache_bytes=0)
    answers = Answers(BatchEngine(llama, limits))
    asked = [tokens(call, 200 + call) for call in range(3)]
    for call, prompt in enumerate(asked):
        answers.submit(call, prompt=prompt, max_tokens=120)
    answers.finish()
    assert answers.engine.stats()["preemptions_total"] > 0
    for call, prompt in enumerate(asked):
        assert answers.tokens[call] == expected(llama.model, prompt, 120, window=300, sinks=4)
