"""Greedy answers equal mlx_lm's own, for every kind of cache, however calls come and go."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.generate import generate_step

from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.caches.caches import ArraysCache, leaves
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.engine.loader import LoadedModel
from tests.host.engine.architectures import ARCHITECTURES, ONE_OF_A_KIND, make_model
from tests.host.engine.reference import assert_greedy
from tests.host.engine.tiny import Answers


@pytest.fixture(scope="module", params=[*ARCHITECTURES, "llama 4 bit"])
def other(loaded: LoadedModel, request: pytest.FixtureRequest) -> LoadedModel:
    return endless(loaded, request.param)


@pytest.fixture(scope="module", params=ONE_OF_A_KIND)
def one_of_a_kind(loaded: LoadedModel, request: pytest.FixtureRequest) -> LoadedModel:
    return endless(loaded, request.param)


def endless(loaded: LoadedModel, name: str) -> LoadedModel:
    kind, _, bits = name.partition(" ")
    model = make_model(kind, bits=4 if bits else None)
    return replace(loaded, model=model, eos_ids=frozenset(), config={}, context_length=None)


def expected(model: Any, prompt: list[int], max_tokens: int) -> list[int]:
    steps = generate_step(mx.array(prompt), model, max_tokens=max_tokens)
    return [int(token) for token, _ in steps]


def prompts(seed: int, lengths: list[int]) -> list[list[int]]:
    chance = random.Random(seed)
    return [[chance.randrange(3, 380) for _ in range(length)] for length in lengths]


def test_batches_are_exact(other: LoadedModel) -> None:
    assert BatchEngine(other).describe()["batched"] is True


def test_together_equals_alone(other: LoadedModel) -> None:
    answers = Answers(BatchEngine(other))
    asked = prompts(1, [1, 7, 7, 8, 30, 31, 2, 60])
    for call, prompt in enumerate(asked):
        answers.submit(call, prompt=prompt, max_tokens=25)
    answers.finish()
    for call, prompt in enumerate(asked):
        assert answers.tokens[call] == expected(other.model, prompt, 25)
    assert len({token for tokens in answers.tokens.values() for token in tokens}) > 12, (
        "a model that repeats itself shows nothing"
    )


@pytest.mark.parametrize(("seed", "chunk", "max_batch"), [(2, 512, 64), (3, 5, 6), (4, 11, 3)])
def test_coming_and_going_equals_alone(
    one_of_a_kind: LoadedModel, seed: int, chunk: int, max_batch: int
) -> None:
    chance = random.Random(seed)
    answers = Answers(BatchEngine(one_of_a_kind, EngineLimits(prefill_chunk=chunk, max_batch=max_batch)))
    asked = prompts(seed, [chance.choice([1, 2, 5, 9, 17, 40]) for _ in range(14)])
    lengths = [chance.choice([1, 2, 12, 30]) for _ in asked]
    for call, prompt in enumerate(asked):
        answers.submit(call, prompt=prompt, max_tokens=lengths[call])
        answers.step(chance.choice([0, 0, 1, 3, 6]))
        if chance.random() < 0.25 and call not in answers.last:
            answers.cancel(call)
    answers.finish()
    assert_greedy(answers, one_of_a_kind.model)


@pytest.mark.parametrize("name", ["mamba", "lfm2"])
def test_no_chain_of_unevaluated_paddings(loaded: LoadedModel, name: str) -> None:
    """mlx_lm counts the padding of recurrent layers down by one buffer a token (Metal limits their number)."""
    answers = Answers(BatchEngine(endless(loaded, name)))
    for call in range(3):
        answers.submit(call, prompt=[5] * (call + 1), max_tokens=20)
    answers.step(6)
    (lane,) = answers.engine._lanes._lanes
    states = [item for item in leaves(lane._caches.layers) if isinstance(item, ArraysCache)]
    assert states and all(item.left_padding is None for item in states)
    answers.finish()
