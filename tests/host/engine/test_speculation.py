"""Drafting changes how soon tokens come, and nothing else: answers with it are compared with those without."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from mlx.utils import tree_map

from mlxbridge.host.engine.acceptance import Prospect
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.payoff import WIDTHS, Payoff
from mlxbridge.types import Usage
from tests.host.engine.architectures import make_model
from tests.host.engine.tiny import Answers

REPETITIVE = [5, 6, 7, 8, 9, 10, 11, 12] * 6


@pytest.fixture(scope="module")
def endless(loaded: LoadedModel) -> LoadedModel:
    """The tiny model without EOS, so that lengths are known."""
    return replace(loaded, eos_ids=frozenset())


@pytest.fixture(scope="module")
def stranger(loaded: LoadedModel) -> LoadedModel:
    """A model of the same vocabulary that would say something else."""
    model = make_model("llama")
    model.update(tree_map(lambda leaf: -leaf if leaf.ndim == 2 else leaf, model.parameters()))
    return replace(loaded, name="stranger", model=model, eos_ids=frozenset())


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draft whenever there is something to draft, as much as fits: what pays is another matter."""

    def width(
        _self: Payoff, _num_rows: int, drafts: Sequence[Prospect], *, by_model: bool, room: float
    ) -> int:
        most = max((draft.most for draft in drafts), default=0)
        return max(width for width in WIDTHS if width <= min(most + 1, room))

    monkeypatch.setattr(Payoff, "decide", lambda *_, **__: True)
    monkeypatch.setattr(Payoff, "width", width)


def run(engine: BatchEngine, asked: Sequence[dict[str, Any]], pauses: Sequence[int] = ()) -> Answers:
    answers = Answers(engine)
    for call, request in enumerate(asked):
        answers.submit(call, **request)
        answers.step(pauses[call % len(pauses)] if pauses else 0)
    return answers.finish()


def usage_of(answers: Answers, call: int) -> Usage:
    usage = answers.last[call].usage
    assert usage is not None
    return usage


def assert_same(found: Answers, expected: Answers) -> None:
    for call, tokens in expected.tokens.items():
        assert found.tokens[call] == tokens, call
        assert found.texts[call] == expected.texts[call]
        known, known_without = found.logprobs[call], expected.logprobs[call]
        assert (known is None) == (known_without is None)
        for one, other in zip(known or [], known_without or [], strict=True):
            assert [each.token_id for each in one.top] == [each.token_id for each in other.top]
            assert one.chosen.logprob == pytest.approx(other.chosen.logprob, abs=1e-4)
        usage, without = usage_of(found, call), usage_of(expected, call)
        for name in (
            "finish_reason",
            "prompt_tokens",
            "completion_tokens",
            "stop_string",
            "stop_token_id",
        ):
            assert getattr(usage, name) == getattr(without, name)


# One for each way to choose a token.
CHOICES: list[dict[str, Any]] = [
    {},
    {"temperature": 0.8, "seed": 3},
    {"temperature": 1.0, "top_p": 0.9, "min_p": 0.01, "seed": 4, "logprobs": 3},
    {"temperature": 1.0, "top_k": 20, "seed": 5},
    {"repetition_penalty": 1.3, "repetition_context_size": 9},
    {"presence_penalty": 0.9, "frequency_penalty": 0.5, "temperature": 0.7, "seed": 6},
    {"logit_bias": {44: 3.0}, "logprobs": 0},
    {"temperature": 1.2, "xtc_probability": 0.7, "xtc_threshold": 0.05, "seed": 7},
    {"min_tokens": 12, "stop_token_ids": tuple(range(0, 384, 9))},
    {"temperature": 1.0, "seed": 8, "min_tokens": 5, "stop_token_ids": tuple(range(0, 384, 11))},
    {"stop": ("e",), "temperature": 0.9, "seed": 9},
]


def requests(seed: int, methods: Sequence[str]) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    asked = []
    for number in range(2 * len(CHOICES)):
        prompt = [chance.randrange(3, 380) for _ in range(chance.choice([1, 2, 9, 30, 75]))]
        prompt = REPETITIVE[: chance.randint(10, 48)] if number % 3 == 0 else prompt
        asked.append(
            {
                "prompt": prompt,
                "max_tokens": chance.choice([12, 13, 25, 40]) if number % 5 else chance.choice([1, 2]),
                "speculation": chance.choice(methods),
                **CHOICES[number % len(CHOICES)],
            }
        )
        asked[-1]["min_tokens"] = min(asked[-1].get("min_tokens", 0), asked[-1]["max_tokens"])
    return asked


def without(asked: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            name: value
            for name, value in {**request, "speculation": "off"}.items()
            if name != "max_draft_tokens"
        }
        for request in asked
    ]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("pauses", [(0,), (0, 3, 1, 0, 5)])
@pytest.mark.parametrize(
    ("methods", "is_good"),
    [(["ngram"], True), (["draft"], True), (["draft"], False), (["off", "ngram", "draft"], True)],
)
def test_answers_are_the_same_as_without(
    endless: LoadedModel, stranger: LoadedModel, methods: list[str], is_good: bool, pauses: tuple[int, ...]
) -> None:
    asked = requests(1, methods)
    expected = run(BatchEngine(endless), without(asked), pauses)
    engine = BatchEngine(endless, draft=endless if is_good else stranger)
    found = run(engine, asked, pauses)
    assert_same(found, expected)
    drafted = sum(usage_of(found, call).draft_tokens for call in found.last)
    assert drafted > 30
