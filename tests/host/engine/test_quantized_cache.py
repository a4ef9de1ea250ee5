"""Keys and values in 8 and 4 bits: answers equal mlx_lm's on its own quantized cache, however calls come and go."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import pytest
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import KVCache, QuantizedKVCache, make_prompt_cache

from bench.demo_model import corpus, evaluate
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.caches.cache_plan import CachePlan
from mlxbridge.host.engine.caches.caches import nbytes
from mlxbridge.host.engine.caches.footprint import measure_footprint
from mlxbridge.host.engine.caches.quantized_cache import Quantization
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.engine.loader import LoadedModel, load
from mlxbridge.host.engine.prefixes.prefix_cache import BLOCK_TOKENS
from tests.host.engine.architectures import LARGE_HEADS, LARGE_LFM2, make_model
from tests.host.engine.reference import greedy
from tests.host.engine.tiny import Answers, num_cached, tokens

GROUP = 32
# One with such layers only, one with sliding windows beside them, and one with recurrent states.
KINDS = {"llama": LARGE_HEADS, "gemma3_text": LARGE_HEADS, "lfm2": LARGE_LFM2}


@pytest.fixture(scope="module")
def llama(loaded: LoadedModel) -> LoadedModel:
    return endless(loaded, "llama")


@pytest.fixture(scope="module", params=KINDS)
def one_of_a_kind(loaded: LoadedModel, request: pytest.FixtureRequest) -> LoadedModel:
    return endless(loaded, request.param)


def endless(loaded: LoadedModel, name: str) -> LoadedModel:
    model = make_model(name, **KINDS[name])
    return replace(loaded, model=model, eos_ids=frozenset(), config={}, context_length=None)


def mlx_lms_caches(model: Any, bits: int) -> list[Any]:
    """Quantized from the first token on."""
    return [
        QuantizedKVCache(GROUP, bits) if type(item) is KVCache else item for item in make_prompt_cache(model)
    ]


def expected(model: Any, bits: int, prompt: list[int], max_tokens: int) -> list[int]:
    """What mlx_lm's own loop draws, with its own quantized caches."""
    caches = mlx_lms_caches(model, bits)
    steps = generate_step(mx.array(prompt), model, max_tokens=max_tokens, prompt_cache=caches)
    return [int(token) for token, _ in steps]


@pytest.mark.parametrize("bits", [8, 4])
def test_together_and_alone_equal_mlx_lms_quantized_cache(one_of_a_kind: LoadedModel, bits: int) -> None:
    engine = BatchEngine(one_of_a_kind, EngineLimits(kv_bits=bits, prefix_cache_bytes=0))
    assert engine.describe()["batched"] is True
    answers, asked = Answers(engine), [tokens(1, length) for length in (1, 7, 8, 30, 31, 2, 60)]
    for call, prompt in enumerate(asked):
        answers.submit(call, prompt=prompt, max_tokens=16)
    answers.finish()
    for call, prompt in enumerate(asked):
        answers.submit(100 + call, prompt=prompt, max_tokens=16)
        answers.finish()
        assert answers.tokens[call] == answers.tokens[100 + call]
        assert answers.tokens[call] == expected(one_of_a_kind.model, bits, prompt, 16)
    assert len({token for drawn in answers.tokens.values() for token in drawn}) > 12


@pytest.mark.parametrize("bits", [8, 4])
def test_whole_keys_and_values_are_as_good_where_no_others_can_be_multiplied(
    one_of_a_kind: LoadedModel, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlxbridge.host.engine.caches.quantized_rows.multiplies_quantized", lambda: False)
    monkeypatch.setattr(mx, "quantized_matmul", lambda *_, **__: pytest.fail("no such kernel"))
    engine = BatchEngine(one_of_a_kind, EngineLimits(kv_bits=bits, prefix_cache_bytes=0))
    assert engine.describe()["batched"] is True
    answers, asked = Answers(engine), [tokens(1, length) for length in (1, 7, 30, 31, 2)]
    for call, prompt in enumerate(asked):
        answers.submit(call, prompt=prompt, max_tokens=25)
        answers.step(2)
    answers.finish()
    monkeypatch.undo()
    for call, prompt in enumerate(asked):
        assert answers.tokens[call] == expected(one_of_a_kind.model, bits, prompt, 25)


@pytest.mark.parametrize(("seed", "chunk", "max_batch"), [(2, 512, 64), (3, 5, 6), (4, 11, 3)])
def test_coming_and_going_equals_mlx_lms(
    one_of_a_kind: LoadedModel, seed: int, chunk: int, max_batch: int
) -> None:
    chance = random.Random(seed)
    limits = EngineLimits(kv_bits=8, prefill_chunk=chunk, max_batch=max_batch)
    answers = Answers(BatchEngine(one_of_a_kind, limits))
    asked = [tokens(seed, chance.choice([1, 2, 9, 40, 90, 130])) for _ in range(12)]
    lengths = [chance.choice([1, 12, 30]) for _ in asked]
    for call, prompt in enumerate(asked):
        answers.submit(call, prompt=prompt, max_tokens=lengths[call])
        answers.step(chance.choice([0, 0, 1, 3, 6]))
        if chance.random() < 0.25 and call not in answers.last:
            answers.cancel(call)
    answers.finish()
    for call, prompt in enumerate(asked):
        got = answers.tokens.get(call, [])
        assert got == greedy(one_of_a_kind.model, prompt, got, mlx_lms_caches(one_of_a_kind.model, 8))
        usage = answers.last[call].usage
        assert usage is not None and (len(got) == lengths[call] or usage.finish_reason == "cancelled")


def test_prefixes_are_stored_quantized(llama: LoadedModel) -> None:
    prompt = tokens(1, 3 * BLOCK_TOKENS + 1)
    stored = {}
    for bits in (None, 8, 4):
        answers = Answers(BatchEngine(llama, EngineLimits(kv_bits=bits)))
        for call in range(3):
            answers.submit(call, prompt=[*prompt, *tokens(call, call)], max_tokens=10)
            answers.finish()
        assert [num_cached(answers, call) for call in range(3)] == [0, 192, 192]
        if bits is not None:
            for call in range(3):
                told = expected(llama.model, bits, [*prompt, *tokens(call, call)], 10)
                assert answers.tokens[call] == told
        stored[bits] = answers.engine.stats()["prefix_cache_bytes"]
    # Of 32 float32 numbers that share a scale and a bias.
    assert stored[8] / stored[None] == (32 + 2 * 4) / (32 * 4)
    assert stored[4] / stored[None] == (16 + 2 * 4) / (32 * 4)


def test_bytes_are_counted_as_they_are(llama: LoadedModel) -> None:
    plan = CachePlan(llama.model, quantization=Quantization(bits=8, group_size=GROUP))
    footprint = measure_footprint(plan)
    assert footprint.token_bytes == 2 * 2 * 2 * (32 + 2 * 4)
    engine = BatchEngine(llama, EngineLimits(kv_bits=8))
    assert engine.describe()["kv_bytes_per_token"] == footprint.token_bytes
    for length in (1, 255, 256, 700):
        caches = plan.make()
        llama.model(mx.ones((1, length), dtype=mx.int32), cache=caches)
        assert 0.9 * footprint.row_bytes(length - 1) <= nbytes(caches) <= footprint.row_bytes(length)
    answers = Answers(engine)
    for call in range(3):
        answers.submit(call, prompt=tokens(call, 40 * (call + 1)), max_tokens=400)
    answers.step(12)
    assert engine.stats()["kv_bytes_used"] == 3 * footprint.row_bytes(120)
    answers.finish()


def test_calls_that_lost_their_memory_go_on_as_if_nothing_had_happened(llama: LoadedModel) -> None:
    row = measure_footprint(CachePlan(llama.model, quantization=Quantization(8, GROUP))).row_bytes(1)
    limits = EngineLimits(kv_bits=8, kv_bytes=3 * row, expected_tokens=4, prefix_cache_bytes=0)
    answers = Answers(BatchEngine(llama, limits))
    asked = [tokens(call, 200 + call) for call in range(3)]
    for call, prompt in enumerate(asked):
        answers.submit(call, prompt=prompt, max_tokens=90)
    answers.finish()
    assert answers.engine.stats()["preemptions_total"] > 0
    for call, prompt in enumerate(asked):
        told = answers.tokens[call]
        assert told == greedy(llama.model, prompt, told, mlx_lms_caches(llama.model, 8)) and len(told) == 90


def test_more_calls_fit_into_the_same_memory(llama: LoadedModel) -> None:
    running = {}
    for bits in (None, 8, 4):
        answers = Answers(BatchEngine(llama, EngineLimits(kv_bits=bits, kv_bytes=4 << 20)))
        for call in range(40):
            answers.submit(call, prompt=tokens(call, 10), max_tokens=600)
        answers.step(60)
        running[bits] = answers.engine.stats()["running"]
    assert 0 < 3 * running[None] <= running[8] and 3 * running[8] <= 2 * running[4]


@pytest.fixture(scope="module")
def demo() -> LoadedModel:
    return load(Path(__file__).parents[3] / "host/models/demo", "demo")


QUESTIONS = (
    "What is 17 + 25?",
    'Reverse "planet"',
    "Count down from 10 to 1.",
    "Spell banana",
    "Who are you?",
)


def test_a_real_models_answers_are_those_of_mlx_lms_generate(demo: LoadedModel) -> None:
    """With its ``kv_bits`` set from the first token on, mlx_lm reads a prompt's first piece before it quantizes it, so
    that its logits are others than on its quantized cache, and than ours; but no more so than quantizing makes them.
    """
    answers = Answers(BatchEngine(demo, EngineLimits(kv_bits=8)))
    for call, question in enumerate(QUESTIONS):
        answers.submit(call, messages=[{"role": "user", "content": question}], max_tokens=60)
    answers.finish()
    for call, question in enumerate(QUESTIONS):
        messages = [{"role": "user", "content": question}]
        prompt = demo.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        settings: dict[str, Any] = {"kv_bits": 8, "kv_group_size": GROUP, "quantized_kv_start": 0}
        told = mlx_lm.generate(demo.model, demo.tokenizer, prompt, max_tokens=60, **settings)
        assert answers.texts[call] == told


def texts(demo: LoadedModel) -> Iterator[list[int]]:
    """Conversations that the demo model has not seen, with their answers."""
    for dialogue in corpus.held_out(6)[::112]:
        answer = demo.tokenizer.encode(dialogue.turns[-1][1], add_special_tokens=False)
        yield evaluate.prompt(demo.tokenizer, dialogue) + answer


def perplexity(plan: CachePlan, texts: list[list[int]]) -> float:
    """Of the texts' tokens but the first ones, each text read in pieces."""
    total, count = 0.0, 0
    for ids in texts:
        caches = plan.make()
        for start in range(0, len(ids) - 1, 64):
            piece, after = ids[start : start + 64], ids[start + 1 : start + 65]
            logits = plan.model(mx.array([piece[: len(after)]]), cache=caches)[0].astype(mx.float32)
            logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
            total -= float(mx.sum(mx.take_along_axis(logprobs, mx.array(after)[:, None], axis=-1)))
            count += len(after)
    return math.exp(total / count)


def test_perplexity_hardly_grows(demo: LoadedModel) -> None:
    asked = list(texts(demo))
    assert sum(map(len, asked)) > 500
    plain = perplexity(CachePlan(demo.model), asked)
    found = {
        bits: perplexity(CachePlan(demo.model, quantization=Quantization(bits, GROUP)), asked) / plain - 1
        for bits in (8, 4)
    }
    assert abs(found[8]) < 0.01
    assert abs(found[8]) < found[4] < 0.05, "four bits cost something"
