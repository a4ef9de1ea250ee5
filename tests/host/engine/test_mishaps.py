"""Steps that raise at random: every answer is what it would have been without, or its beginning."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.choice.chooser import Chooser, Drawn
from mlxbridge.host.engine.decode import Lane
from mlxbridge.host.engine.drafts.draft_rows import DraftRows
from mlxbridge.host.engine.drafts.drafting import Drafting
from mlxbridge.host.engine.drafts.payoff import Payoff
from mlxbridge.host.engine.grammar.masks import Masks
from mlxbridge.host.engine.grammar.response_format import Source
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.prefill.reading import Group
from tests.host.engine.tiny import Answers

MakeEngine = Callable[..., BatchEngine]

SPOTS: list[tuple[type, str]] = [
    *((Lane, method) for method in ("settle", "join", "queue", "read")),
    *((Drawn, method) for method in ("start", "read")),
    *((Group, method) for method in ("read", "states", "finish")),
    (Chooser, "choose"),
    (Masks, "compute"),
]
DRAFT_SPOTS: list[tuple[type, str]] = [
    (Lane, "catch_up"),
    *((Drafting, method) for method in ("add", "draft", "hear", "join", "remove")),
    *((DraftRows, method) for method in ("draft", "judge", "leave")),
]

FORMATS = [
    Source("regex", "response_format.pattern", "([a-z]{2,4} ){5,9}"),
    Source("json_schema", "response_format.schema", '{"type": "array", "items": {"enum": [1, "two"]}}'),
]


class Gremlin:
    """Lets steps raise now and then, before or after they have done what they do."""

    def __init__(self, seed: int, share: float) -> None:
        self._chance = random.Random(seed)
        self._share = share
        self.num_raised = 0

    def infest(self, monkeypatch: pytest.MonkeyPatch, spots: list[tuple[type, str]]) -> None:
        for owner, method in spots:
            monkeypatch.setattr(owner, method, self._worsen(getattr(owner, method)))

    def _worsen(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def worse(*arguments: Any, **options: Any) -> Any:
            raises, is_late = self._chance.random() < self._share, self._chance.random() < 0.5
            if raises and not is_late:
                self._raise()
            result = real(*arguments, **options)
            if raises:
                self._raise()
            return result

        return worse

    def _raise(self) -> None:
        self.num_raised += 1
        raise RuntimeError("[malloc] no memory" if self._chance.random() < 0.2 else "odd")


def mixed_requests(seed: int, count: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    return [
        {
            "prompt": [chance.randrange(3, 380) for _ in range(chance.choice((3, 20, 90)))],
            "max_tokens": chance.randrange(1, 60),
            "temperature": chance.choice((0.0, 0.9)),
            "top_p": chance.choice((1.0, 0.9)),
            "seed": chance.randrange(1 << 32),
            "repetition_penalty": chance.choice((1.0, 1.3)),
            "logprobs": chance.choice((None, 1)),
            "stop": chance.choice(((), ("o", "the"))),
            "priority": chance.choice(("low", "normal", "high")),
            "response_format": chance.choice((None, None, *FORMATS)),
        }
        for _ in range(count)
    ]


@pytest.fixture
def endless(loaded: LoadedModel) -> LoadedModel:
    return replace(loaded, eos_ids=frozenset())


@pytest.mark.parametrize("has_drafts", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_whatever_fails_and_when_no_answer_loses_or_repeats_a_token(
    make_engine: MakeEngine,
    endless: LoadedModel,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    has_drafts: bool,
) -> None:
    """What was drawn but not read when a lane failed is drawn once more, and is the same."""
    requests = mixed_requests(seed, 25)
    undisturbed = Answers(make_engine(endless))
    for call, request in enumerate(requests):
        undisturbed.submit(call, **request)
    undisturbed.finish()
    gremlin = Gremlin(seed, share=0.01)
    gremlin.infest(monkeypatch, [*SPOTS, *DRAFT_SPOTS] if has_drafts else SPOTS)
    limits = EngineLimits(max_batch=12, prefill_chunk=32)
    engine = BatchEngine(endless, limits, draft=endless if has_drafts else None)
    if has_drafts:
        monkeypatch.setattr(Payoff, "decide", lambda *_, **__: True)
        monkeypatch.setattr(Payoff, "width", lambda *_, **__: 4)
    answers = Answers(engine)
    chance = random.Random(seed)
    for call, request in enumerate(requests):
        answers.submit(call, **request)
        answers.step(chance.randrange(3))
    answers.finish()
    num_whole = 0
    for call in range(len(requests)):
        tokens, num_tokens = answers.tokens[call], len(answers.tokens[call])
        logprobs = answers.logprobs[call]
        assert logprobs is None or [token.chosen.token_id for token in logprobs] == tokens
        assert tokens == undisturbed.tokens[call][:num_tokens]
        if answers.last[call].error is None:
            num_whole += 1
            assert num_tokens == len(undisturbed.tokens[call])
            assert answers.texts[call] == undisturbed.texts[call]
            usage, expected = answers.last[call].usage, undisturbed.last[call].usage
            assert usage is not None and expected is not None
            assert (usage.completion_tokens, usage.finish_reason, usage.stop_string) == (
                expected.completion_tokens,
                expected.finish_reason,
                expected.stop_string,
            )
        else:
            assert undisturbed.texts[call].startswith(answers.texts[call])
    assert gremlin.num_raised >= 5 and num_whole >= 10
