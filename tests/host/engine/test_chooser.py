"""What requests ask of the choice of tokens, through the whole engine, beside mlx_lm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest

from mlxbridge.errors import InvalidArgument
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.loader import LoadedModel
from tests.host.engine.reference import mlx_lm_steps
from tests.host.engine.tiny import TEXTS, Answers

MakeEngine = Callable[..., BatchEngine]
PROMPTS = [[1 + (i * i + 7 * i * k) % 380 for i in range(1 + 9 * k)] for k in range(6)]
LENGTH = 30
# Strong ones: each must change what a greedy model says.
CHOICES: list[dict[str, Any]] = [
    {"logit_bias": {5: 9.0, 17: 8.5, 200: -50.0}},
    {"repetition_penalty": 1.6},
    {"repetition_penalty": 0.3, "repetition_context_size": 3},
    {"presence_penalty": -3.0, "presence_context_size": 64},
    {"frequency_penalty": -1.5, "frequency_context_size": 12},
    {
        "logit_bias": {44: 3.0},
        "repetition_penalty": 1.1,
        "repetition_context_size": 1,
        "presence_penalty": 0.9,
        "frequency_penalty": 0.7,
        "frequency_context_size": 100,
    },
]


# One for each way to filter, and each with some of the above.
FILTERS: list[dict[str, Any]] = [
    {},
    {"top_p": 0.95, "top_k": 100, "logprobs": 3},
    {"top_k": 30, "top_p": 0.97},
    {"xtc_probability": 0.5, "xtc_threshold": 0.05, "logprobs": 0},
    {"xtc_probability": 0.9, "xtc_threshold": 0.02, "top_k": 50, "top_p": 0.99, "min_tokens": 9},
    {"min_p": 0.01, "logprobs": 20},
]


@pytest.fixture(scope="module")
def endless(loaded: LoadedModel) -> LoadedModel:
    """The tiny model without EOS, so that lengths are known."""
    return replace(loaded, eos_ids=frozenset())


@pytest.fixture
def free(make_engine: MakeEngine, endless: LoadedModel) -> Answers:
    return Answers(make_engine(endless))


def expected(loaded: LoadedModel, prompt: list[int], choice: dict[str, Any]) -> list[int]:
    return [token for token, _ in mlx_lm_steps(loaded, prompt, LENGTH, **choice)]


@pytest.mark.parametrize("index", range(len(CHOICES)))
def test_bias_and_penalties_alone_equal_mlx_lm(free: Answers, endless: LoadedModel, index: int) -> None:
    choice, prompt = CHOICES[index], PROMPTS[index]
    free.submit(1, prompt=prompt, max_tokens=LENGTH, **choice)
    free.finish()
    assert free.tokens[1] == expected(endless, prompt, choice)
    assert free.tokens[1] != expected(endless, prompt, {})


@pytest.mark.parametrize("options", [{}, {"prefill_chunk": 5}, {"max_batch": 3}])
def test_bias_and_penalties_in_a_changing_batch_equal_mlx_lm(
    make_engine: MakeEngine, endless: LoadedModel, options: dict[str, int]
) -> None:
    answers = Answers(make_engine(endless, **options))
    asked = {}
    for i, prompt in enumerate(PROMPTS * 2):
        choice = CHOICES[(i + i // 6) % 6] if i % 3 else {}
        asked[i] = prompt, choice
        answers.submit(i, prompt=prompt, max_tokens=LENGTH, **choice)
        answers.submit(100 + i, prompt=prompt[::-1], max_tokens=20, temperature=1.0, **CHOICES[i % 6])
        answers.step(i % 4)
        if i % 4 == 1:
            answers.cancel(100 + i)
    answers.finish()
    for i, (prompt, choice) in asked.items():
        assert answers.tokens[i] == expected(endless, prompt, choice), i


def test_seed_with_any_choice_same_alone_and_in_a_batch(
    make_engine: MakeEngine, endless: LoadedModel
) -> None:
    requests = [
        {"prompt": prompt, "max_tokens": LENGTH, "temperature": 0.8, "seed": 40 + i, **choice, **filters}
        for i, (prompt, choice, filters) in enumerate(zip(PROMPTS, CHOICES, FILTERS, strict=True))
    ]
    requests += [{**request, **FILTERS[(i + 2) % 6]} for i, request in enumerate(requests)]
    crowd = Answers(make_engine(endless))
    for i, request in enumerate(requests):
        crowd.submit(i, **request)
        crowd.step(i % 5)
        crowd.submit(100 + i, **{**request, "seed": 90 + i, "max_tokens": 10})
    crowd.finish()
    for i, request in enumerate(requests):
        alone = Answers(make_engine(endless))
        alone.submit(0, **request)
        assert alone.finish().tokens[0] == crowd.tokens[i], i
        assert alone.tokens[0][:10] != crowd.tokens[100 + i]
        ours, theirs = alone.logprobs[0], crowd.logprobs[i]
        logprobs = [one.chosen.logprob for one in theirs or []]
        assert [one.chosen.logprob for one in ours or []] == pytest.approx(logprobs, abs=1e-4)


def ends_at(loaded: LoadedModel, prompt: list[int], num_tokens: int) -> int:
    """A token that ends the greedy answer after so many others, if it is one that ends answers."""
    tokens = expected(loaded, prompt, {})
    assert tokens[num_tokens] not in tokens[:num_tokens]
    return tokens[num_tokens]


def test_stop_token_ends_the_answer_as_eos_does(free: Answers, endless: LoadedModel) -> None:
    tokens = expected(endless, PROMPTS[2], {})
    token = ends_at(endless, PROMPTS[2], 2)
    free.submit(1, prompt=PROMPTS[2], max_tokens=LENGTH, stop_token_ids=(383, token))
    free.submit(2, prompt=PROMPTS[2], max_tokens=LENGTH)
    free.finish()
    usage = free.last[1].usage
    assert usage is not None
    assert (usage.finish_reason, usage.stop_token_id, usage.completion_tokens) == ("stop", token, 3)
    assert free.tokens[1] == tokens[:2]
    assert free.texts[1] == endless.tokenizer.decode(tokens[:2])
    assert free.tokens[2] == tokens


def test_eos_ends_the_answer_unless_it_is_ignored(make_engine: MakeEngine, endless: LoadedModel) -> None:
    tokens = expected(endless, PROMPTS[2], {})
    eos = ends_at(endless, PROMPTS[2], 2)
    answers = Answers(make_engine(replace(endless, eos_ids=frozenset({eos}))))
    answers.submit(1, prompt=PROMPTS[2], max_tokens=LENGTH)
    answers.submit(2, prompt=PROMPTS[2], max_tokens=LENGTH, ignore_eos=True)
    answers.submit(3, prompt=PROMPTS[2], max_tokens=LENGTH, ignore_eos=True, stop_token_ids=(eos,))
    answers.finish()
    usages = [answers.last[i].usage for i in (1, 2, 3)]
    assert [usage and (usage.finish_reason, usage.stop_token_id) for usage in usages] == [
        ("stop", None),
        ("length", None),
        ("stop", eos),
    ]
    assert [answers.tokens[i] for i in (1, 2, 3)] == [tokens[:2], tokens, tokens[:2]]


def test_ignored_eos_has_an_id_and_no_text(make_engine: MakeEngine, loaded: LoadedModel) -> None:
    (eos,) = loaded.eos_ids
    answers = Answers(make_engine())
    answers.submit(1, prompt="x", max_tokens=4, ignore_eos=True, logit_bias={eos: 1000.0})
    answers.submit(2, prompt="x", max_tokens=4, logit_bias={eos: 1000.0})
    answers.finish()
    assert (answers.tokens[1], answers.texts[1]) == ([eos] * 4, "")
    assert (answers.tokens[2], answers.texts[2]) == ([], "")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_neither_eos_nor_stop_tokens_before_min_tokens(
    make_engine: MakeEngine, endless: LoadedModel, temperature: float
) -> None:
    """With EOS the likeliest token by far and a stop token the next, an answer is as long as it must be."""
    answers = Answers(make_engine(replace(endless, eos_ids=frozenset({9}))))
    bias = {9: 2000.0, 10: 1000.0}
    for i in range(8):
        answers.submit(
            i,
            prompt=PROMPTS[i % 6],
            max_tokens=30,
            temperature=temperature,
            min_tokens=3 * i,
            ignore_eos=i % 2 == 1,
            stop_token_ids=(10,),
            logit_bias=bias,
        )
        answers.step(i % 3)
    answers.finish()
    for i in range(8):
        usage = answers.last[i].usage
        assert usage is not None
        if i % 2:
            # EOS, an ordinary token, is the likeliest.
            assert answers.tokens[i] == [9] * 30
            continue
        assert (usage.completion_tokens, usage.stop_token_id) == (3 * i + 1, None)
        assert len(answers.tokens[i]) == 3 * i
        assert not {9, 10}.intersection(answers.tokens[i])


def test_min_tokens_changes_nothing_but_the_end(make_engine: MakeEngine, endless: LoadedModel) -> None:
    """Until EOS would have come, and in rows beside it, answers are what they are without."""
    tokens = expected(endless, PROMPTS[2], {})
    eos = ends_at(endless, PROMPTS[2], 2)
    answers = Answers(make_engine(replace(endless, eos_ids=frozenset({eos}))))
    answers.submit(1, prompt=PROMPTS[2], max_tokens=LENGTH, min_tokens=2)
    answers.submit(2, prompt=PROMPTS[2], max_tokens=LENGTH, min_tokens=3)
    answers.submit(3, prompt=PROMPTS[2], max_tokens=LENGTH, ignore_eos=True)
    answers.finish()
    assert answers.tokens[1] == tokens[:2]
    assert answers.tokens[2][:2] == tokens[:2]
    assert len(answers.tokens[2]) > 2 and answers.tokens[2][2] != eos
    assert answers.tokens[3] == tokens


def check_logprobs(
    answers: Answers, call: int, loaded: LoadedModel, steps: list[tuple[int, mx.array]]
) -> None:
    found, num_top = answers.logprobs[call], answers.asked[call].get("logprobs")
    if num_top is None:
        assert found is None
        return
    assert found is not None
    assert [entry.chosen.token_id for entry in found] == answers.tokens[call]
    for entry, (token, logprobs) in zip(found, steps, strict=False):
        values: Any = logprobs.tolist()
        best = sorted(range(len(values)), key=lambda i: -values[i])[:num_top]
        assert entry.chosen.token_id == token
        assert entry.chosen.logprob == pytest.approx(values[token], abs=1e-4)
        assert [one.token_id for one in entry.top] == best
        assert [one.logprob for one in entry.top] == pytest.approx([values[i] for i in best], abs=1e-4)
        for one in (entry.chosen, *entry.top):
            text = loaded.tokenizer.decode([one.token_id], skip_special_tokens=True)
            assert one.data.decode(errors="replace") == text


@pytest.mark.parametrize("num_top", [0, 1, 5, 20])
def test_logprobs_alone_equal_mlx_lms(free: Answers, endless: LoadedModel, num_top: int) -> None:
    free.submit(1, prompt=PROMPTS[3], max_tokens=LENGTH, logprobs=num_top)
    free.finish()
    steps = mlx_lm_steps(endless, PROMPTS[3], LENGTH)
    assert free.tokens[1] == [token for token, _ in steps]
    check_logprobs(free, 1, endless, steps)


@pytest.mark.parametrize("options", [{}, {"max_batch": 3}])
def test_logprobs_with_any_choice_in_a_changing_batch_equal_mlx_lms(
    make_engine: MakeEngine, endless: LoadedModel, options: dict[str, int]
) -> None:
    answers = Answers(make_engine(endless, **options))
    for i, prompt in enumerate(PROMPTS * 2):
        choice = CHOICES[(i + i // 6) % 6] if i % 3 else {}
        asks = {"logprobs": (i * 3) % 7} if i % 4 else {}
        answers.submit(i, prompt=prompt, max_tokens=20 + i, **choice, **asks)
        answers.submit(100 + i, prompt=prompt[::-1], max_tokens=3 + i, temperature=1.0, **asks)
        answers.step(i % 4)
        if i % 4 == 1:
            answers.cancel(100 + i)
    answers.finish()
    for i in range(12):
        steps = mlx_lm_steps(endless, **answers.asked[i])
        assert answers.tokens[i] == [token for token, _ in steps]
        check_logprobs(answers, i, endless, steps)
        sampled = answers.logprobs[100 + i]
        assert (sampled is not None) == bool(i % 4)
        assert all(entry.chosen.logprob < 0 for entry in sampled or [])


def test_logprobs_are_those_before_temperature_and_filters(free: Answers, endless: LoadedModel) -> None:
    free.submit(1, prompt=PROMPTS[1], max_tokens=1, temperature=1.5, top_k=3, top_p=0.9, logprobs=8)
    free.finish()
    ((_, logprobs),) = mlx_lm_steps(endless, PROMPTS[1], 1)
    (entry,) = free.logprobs[1] or []
    values: Any = logprobs.tolist()
    assert entry.chosen.logprob == pytest.approx(values[entry.chosen.token_id], abs=1e-4)
    assert [one.logprob for one in entry.top] == pytest.approx(sorted(values)[:-9:-1], abs=1e-4)


def test_eos_and_stop_tokens_have_no_logprobs(make_engine: MakeEngine, endless: LoadedModel) -> None:
    eos = ends_at(endless, PROMPTS[2], 2)
    answers = Answers(make_engine(replace(endless, eos_ids=frozenset({eos}))))
    answers.submit(1, prompt=PROMPTS[2], logprobs=2)
    answers.submit(2, prompt=PROMPTS[2], logprobs=2, ignore_eos=True, stop_token_ids=(eos,))
    answers.submit(3, prompt=PROMPTS[2], logprobs=2, ignore_eos=True, max_tokens=5)
    answers.submit(4, prompt=PROMPTS[2], logprobs=2)
    answers.cancel(4)
    answers.finish()
    assert [len(answers.logprobs[i] or []) for i in (1, 2, 3, 4)] == [2, 2, 5, 0]
    assert answers.logprobs[4] == []


def test_what_cannot_be_drawn_is_not_among_the_likeliest(
    make_engine: MakeEngine, endless: LoadedModel
) -> None:
    answers = Answers(make_engine(replace(endless, eos_ids=frozenset({9}))))
    answers.submit(1, prompt=PROMPTS[0], max_tokens=2, min_tokens=1, logit_bias={9: 1000.0}, logprobs=20)
    answers.finish()
    (entry,) = answers.logprobs[1] or []
    assert len(entry.top) == 20
    assert 9 not in [one.token_id for one in entry.top]


def test_request_that_a_model_cannot_honour_is_refused_by_name(answers: Answers) -> None:
    for field, value in (("logit_bias", {384: 1.0}), ("stop_token_ids", (384,)), ("min_tokens", 512)):
        with pytest.raises(InvalidArgument) as caught:
            answers.submit(1, **{"prompt": TEXTS[0], field: value})
        assert caught.value.details == {"field": field}
    assert not answers.engine.has_work
