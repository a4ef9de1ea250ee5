"""Drafting changes how soon tokens come, and nothing else: answers with it are compared with those without."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlxbridge.errors import InvalidArgument, ModelLoadFailed, Unsupported
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.caches.cache_plan import CachePlan
from mlxbridge.host.engine.caches.footprint import measure_footprint
from mlxbridge.host.engine.caches.row_caches import RowCaches
from mlxbridge.host.engine.drafts.acceptance import Prospect
from mlxbridge.host.engine.drafts.draft_model import DraftModel
from mlxbridge.host.engine.drafts.payoff import WIDTHS, Payoff
from mlxbridge.host.engine.grammar.response_format import read_response_format
from mlxbridge.host.engine.interface import EngineLimits, GenerateRequest
from mlxbridge.host.engine.loader import LoadedModel, load
from mlxbridge.types import Speculation, Usage
from tests.host.engine.architectures import COMMON, make_model
from tests.host.engine.tiny import Answers, save_model, save_tokenizer, spm_tokenizer

REPETITIVE = [5, 6, 7, 8, 9, 10, 11, 12] * 6


@pytest.fixture(scope="module")
def endless(loaded: LoadedModel) -> LoadedModel:
    """The tiny model without EOS, so that lengths are known."""
    return replace(loaded, eos_ids=frozenset())


def another(loaded: LoadedModel, architecture: str = "llama", **changes: Any) -> LoadedModel:
    """A model of the same vocabulary that would say something else."""
    return replace(loaded, name="other", model=make_model(architecture), eos_ids=frozenset(), **changes)


@pytest.fixture(scope="module")
def stranger(loaded: LoadedModel) -> LoadedModel:
    return another(loaded)


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


@pytest.fixture(scope="module")
def undrafted() -> dict[str, Answers]:
    """Answers without drafts that are there already, by what was asked."""
    return {}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("methods", "is_good", "pauses"),
    [
        (["ngram"], True, (0, 3, 1, 0, 5)),
        (["draft"], True, (0, 3, 1, 0, 5)),
        (["draft"], False, (0, 3, 1, 0, 5)),
        (["off", "ngram", "draft"], True, (0,)),
        (["off", "ngram", "draft"], True, (0, 3, 1, 0, 5)),
    ],
)
def test_answers_are_the_same_as_without(
    endless: LoadedModel,
    stranger: LoadedModel,
    undrafted: dict[str, Answers],
    methods: list[str],
    is_good: bool,
    pauses: tuple[int, ...],
) -> None:
    asked = requests(1, methods)
    plain = without(asked)
    expected = undrafted.get(repr(plain)) or undrafted.setdefault(
        repr(plain), run(BatchEngine(endless), plain)
    )
    engine = BatchEngine(endless, draft=endless if is_good else stranger)
    found = run(engine, asked, pauses)
    assert_same(found, expected)
    drafted = sum(usage_of(found, call).draft_tokens for call in found.last)
    assert drafted > 30


@pytest.mark.usefixtures("eager")
def test_quantized_answers_are_the_same_as_without(loaded: LoadedModel) -> None:
    wide = replace(loaded, model=make_model("llama", head_dim=32), eos_ids=frozenset(), config={})
    limits = EngineLimits(kv_bits=8, kv_group_size=32)
    asked = requests(11, ["off", "ngram", "draft"])
    found = run(BatchEngine(wide, limits, draft=wide), asked, (0, 2))
    assert_same(found, run(BatchEngine(wide, limits), without(asked), (0, 2)))
    assert sum(usage_of(found, call).draft_tokens for call in found.last) > 100


FORMATS: dict[str, dict[str, Any]] = {
    "[a-z]{2,3}( [a-z]{2,3}){4,6}": {"type": "regex", "pattern": "[a-z]{2,3}( [a-z]{2,3}){4,6}"},
    "yes, of course|no|yes": {"type": "choice", "choices": ["yes, of course", "no", "yes"]},
    r'\[\s*(1|"two")\s*(,\s*(1|"two")\s*)*\]': {
        "type": "json_schema",
        "schema": {"type": "array", "items": {"enum": [1, "two"]}, "minItems": 1},
    },
}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("pauses", [(0,), (0, 3, 1, 0, 5)])
def test_constrained_answers_are_the_same_beside_drafts(
    endless: LoadedModel, pauses: tuple[int, ...]
) -> None:
    asked = requests(12, ["ngram", "draft"])
    patterns = {}
    for number in range(0, len(asked), 2):
        pattern = list(FORMATS)[number // 2 % len(FORMATS)]
        patterns[number] = pattern
        asked[number] = {
            "prompt": asked[number]["prompt"],
            "max_tokens": 60,
            "temperature": (0, 0.8)[number % 4 // 2],
            "seed": number,
            "response_format": read_response_format(FORMATS[pattern]),
        }
    found = run(BatchEngine(endless, draft=endless), asked, pauses)
    assert_same(found, run(BatchEngine(endless), without(asked), pauses))
    ended = [call for call in patterns if usage_of(found, call).finish_reason == "stop"]
    assert len(ended) > len(patterns) // 2
    for call in ended:
        assert re.fullmatch(patterns[call], found.texts[call])
    assert sum(usage_of(found, call).draft_tokens for call in found.last) > 30
    assert not any(usage_of(found, call).draft_tokens for call in patterns)


@pytest.mark.usefixtures("eager")
def test_a_model_that_drafts_for_itself_is_always_right(endless: LoadedModel) -> None:
    asked = [{**request, "stop": (), "ignore_eos": True} for request in requests(2, ["draft"])]
    engine = BatchEngine(endless, draft=endless)
    found = run(engine, [request for request in asked if not request.get("stop_token_ids")])
    stats = engine.stats()
    assert stats["accepted_tokens_total"] == stats["draft_tokens_total"] > 200
    for call in found.last:
        usage = usage_of(found, call)
        assert usage.accepted_tokens == usage.draft_tokens < usage.completion_tokens
    assert stats["steps_total"] < 20 < max(request["max_tokens"] for request in asked)


@pytest.mark.usefixtures("eager")
def test_a_stranger_is_hardly_ever_right(endless: LoadedModel, stranger: LoadedModel) -> None:
    found = run(BatchEngine(endless, draft=stranger), requests(3, ["draft"]))
    usages = [usage_of(found, call) for call in found.last]
    drafted = sum(usage.draft_tokens for usage in usages)
    assert sum(usage.accepted_tokens for usage in usages) < 0.05 * drafted
    assert drafted > 1000


@pytest.mark.usefixtures("eager")
def test_what_repeats_is_looked_up(endless: LoadedModel) -> None:
    engine = BatchEngine(endless)
    bias = {token: 60.0 for token in (7, 8)}
    request = {"prompt": [3, 7, 8], "max_tokens": 60, "logit_bias": bias, "speculation": "ngram"}
    found = run(engine, [{**request, "frequency_penalty": 5.0, "frequency_context_size": 1}])
    expected = run(
        BatchEngine(endless),
        [{**request, "frequency_penalty": 5.0, "frequency_context_size": 1, "speculation": "off"}],
    )
    assert_same(found, expected)
    assert usage_of(found, 0).accepted_tokens > 40
    assert engine.stats()["steps_total"] < 20


@pytest.mark.usefixtures("eager")
def test_tokens_behind_a_stop_are_dropped_and_not_counted(endless: LoadedModel) -> None:
    whole = run(BatchEngine(endless), [{"prompt": [5, 6, 7], "max_tokens": 40}])
    for place in (3, 9, 17):
        text = endless.tokenizer.decode(whole.tokens[0][place : place + 2])
        for end in ({"stop": (text,)}, {"stop_token_ids": (whole.tokens[0][place],)}, {"max_tokens": place}):
            request = {"prompt": [5, 6, 7], "max_tokens": 40, **end}
            expected = run(BatchEngine(endless), [request])
            engine = BatchEngine(endless, draft=endless)
            found = run(engine, [request])
            assert_same(found, expected)
            usage = usage_of(found, 0)
            assert usage.accepted_tokens <= usage.completion_tokens
            assert engine.stats()["tokens_total"] == usage.completion_tokens


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("most", [1, 2, 5, 15])
def test_no_more_is_drafted_at_once_than_was_asked(endless: LoadedModel, most: int) -> None:
    answers = Answers(BatchEngine(endless, draft=endless))
    answers.submit(1, prompt=[5, 6, 7], max_tokens=60, max_draft_tokens=most)
    longest = 0
    while answers.engine.has_work:
        before = len(answers.tokens.get(1, []))
        answers.step()
        longest = max(longest, len(answers.tokens.get(1, [])) - before)
    assert longest == max(width for width in WIDTHS if width <= most + 1)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("method", ["ngram", "draft"])
def test_rows_that_cannot_have_company_draft_alone(
    endless: LoadedModel, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("mlxbridge.host.engine.batch.is_exact_in_batches", lambda *_: False)
    asked = requests(1, [method])
    expected = run(BatchEngine(endless), without(asked))
    found = run(BatchEngine(endless, draft=endless), asked)
    assert_same(found, expected)
    assert sum(usage_of(found, call).draft_tokens for call in found.last) > 20


@pytest.mark.usefixtures("eager")
def test_rows_in_several_lanes_draft(endless: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = requests(5, ["ngram", "draft", "off"])
    engine = BatchEngine(endless, draft=endless)
    monkeypatch.setattr(engine._lanes, "_lane_bytes", 0)
    answers = Answers(engine)
    most = 0
    for call, request in enumerate(asked):
        answers.submit(call, **request)
    while engine.has_work:
        answers.step()
        most = max(most, engine._lanes.num_lanes)
    assert most > 1
    assert_same(answers, run(BatchEngine(endless), without(asked)))


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("method", ["ngram", "draft"])
def test_no_pass_goes_beyond_the_context(
    endless: LoadedModel, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    short = replace(endless, context_length=64)
    asked = [
        {"prompt": REPETITIVE[:length], "max_tokens": 64 - length, "speculation": method, "seed": 1, **choice}
        for length, choice in zip((20, 33, 48, 47, 21), CHOICES, strict=False)
    ]
    ends: list[int] = []
    real = RowCaches.advance

    def advance(caches: RowCaches, num_tokens: int = 1) -> None:
        real(caches, num_tokens)
        ends.append(max(caches.length(place) for place in range(caches.num_rows)))

    monkeypatch.setattr(RowCaches, "advance", advance)
    found = run(BatchEngine(short, draft=short), asked)
    assert max(ends) <= 64
    assert_same(found, run(BatchEngine(short), without(asked)))


@pytest.mark.usefixtures("eager")
def test_a_draft_model_is_not_asked_beyond_its_own_context(endless: LoadedModel) -> None:
    draft = replace(endless, context_length=100)
    asked = [{"prompt": REPETITIVE[:length], "max_tokens": 150} for length in (1, 20, 48)]
    asked.append({"prompt": REPETITIVE * 3, "max_tokens": 9})
    longest: list[int] = []
    real = DraftModel.forward

    def forward(model: DraftModel, tokens: Any, caches: list[Any]) -> Any:
        logits = real(model, tokens, caches)
        longest.append(int(mx.max(mx.array(caches[0].offset))))
        return logits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DraftModel, "forward", forward)
        found = run(BatchEngine(endless, draft=draft), asked)
    assert_same(found, run(BatchEngine(endless), without(asked)))
    assert 70 < max(longest) <= 100
    assert [usage_of(found, call).draft_tokens > 10 for call in range(4)] == [True, True, True, False]


@pytest.mark.usefixtures("eager")
def test_cancelled_rows_leave_a_beginning_and_the_others_go_on(endless: LoadedModel) -> None:
    asked = requests(6, ["ngram", "draft"])
    expected = run(BatchEngine(endless), without(asked))
    chance = random.Random(6)
    answers = Answers(BatchEngine(endless, draft=endless))
    for call, request in enumerate(asked):
        answers.submit(call, **request)
        answers.step(chance.randrange(3))
        other = chance.randrange(len(asked))
        if other in answers.asked and other not in answers.last and chance.random() < 0.5:
            answers.cancel(other)
    answers.finish()
    num_cancelled = 0
    for call, tokens in expected.tokens.items():
        is_cancelled = usage_of(answers, call).finish_reason == "cancelled"
        num_cancelled += is_cancelled
        found = answers.tokens[call]
        assert found == (tokens[: len(found)] if is_cancelled else tokens)
    assert num_cancelled > 2


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("num_rows", [2, 3])
def test_rows_that_outgrow_the_memory_amid_a_pass_over_drafts_go_on_unchanged(
    endless: LoadedModel, num_rows: int
) -> None:
    """Those that stay move together before the pass over all of them has been read."""
    asked = [
        {"prompt": [number, *REPETITIVE[:20]], "max_tokens": 290, "speculation": "draft"}
        for number in range(3, 3 + num_rows)
    ]
    alone = BatchEngine(endless, draft=endless)
    limits = EngineLimits(kv_bytes=(2 * num_rows - 1) * alone._footprint.row_bytes(1), expected_tokens=16)
    found = run(BatchEngine(endless, limits, draft=endless), asked)
    assert_same(found, run(alone, without(asked)))
    assert found.engine.stats()["preemptions_total"] > 0
    assert not found.engine._suspicion._is_open, "a pass has failed"


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("method", ["ngram", "draft"])
def test_what_was_drafted_right_is_cached_for_later_prompts(endless: LoadedModel, method: str) -> None:
    engine = BatchEngine(endless, draft=endless)
    first = {"prompt": REPETITIVE, "max_tokens": 90, "speculation": method}
    answers = run(engine, [first])
    second = {**first, "prompt": [*REPETITIVE, *answers.tokens[0]], "max_tokens": 30}
    later = Answers(engine)
    later.submit(7, **second)
    later.finish()
    assert usage_of(later, 7).cached_tokens >= 128
    expected = run(
        BatchEngine(endless, EngineLimits(prefix_cache_bytes=0)), [{**second, "speculation": "off"}]
    )
    assert later.tokens[7] == expected.tokens[0]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("num_good", [0, 3, 40])
def test_a_draft_model_that_fails_costs_nobody_an_answer(endless: LoadedModel, num_good: int) -> None:
    draft = another(endless)
    asked = requests(7, ["draft", "ngram"])
    expected = run(BatchEngine(endless), without(asked))
    engine = BatchEngine(endless, draft=draft)
    left = [num_good]

    class Failing(type(draft.model)):  # type: ignore[misc]
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise ValueError("no more")
            return super().__call__(*arguments, **options)

    draft.model.__class__ = Failing
    found = run(engine, asked, (0, 2))
    assert_same(found, expected)
    assert left[0] < 0


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("num_ids", [380, 400])
def test_models_of_a_family_may_have_unequally_many_ids(
    endless: LoadedModel, monkeypatch: pytest.MonkeyPatch, num_ids: int
) -> None:
    monkeypatch.setitem(COMMON, "vocab_size", num_ids)
    draft = another(endless, vocabulary_size=num_ids)
    changes = {"logit_bias": {383: 2.0, 382: 1.0}, "max_draft_tokens": 3}
    asked = [{**request, **changes} for request in requests(8, ["draft"])]
    found = run(BatchEngine(endless, draft=draft), asked)
    assert_same(found, run(BatchEngine(endless), without(asked)))
    assert sum(usage_of(found, call).draft_tokens for call in found.last) > 100


def test_both_models_count_against_the_memory(endless: LoadedModel, stranger: LoadedModel) -> None:
    alone, both = BatchEngine(endless), BatchEngine(endless, draft=stranger)
    assert both.describe()["kv_bytes_per_token"] == alone.describe()["kv_bytes_per_token"]
    answers = Answers(both)
    answers.submit(1, prompt=REPETITIVE, max_tokens=200)
    answers.step(4)
    other = Answers(alone)
    other.submit(1, prompt=REPETITIVE, max_tokens=200)
    other.step(4)
    own = alone.describe()["kv_bytes_per_token"]
    more = measure_footprint(CachePlan(stranger.model)).token_bytes
    assert both.stats()["kv_bytes_projected"] * own == alone.stats()["kv_bytes_projected"] * (own + more)
    assert (alone.describe()["draft_model"], both.describe()["draft_model"]) == (None, "other")


def test_who_asks_for_nothing_has_nothing_drafted(
    endless: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlxbridge.host.engine.decode.Drafting", None)
    engine = BatchEngine(endless)
    found = run(engine, without(requests(9, ["off"])))
    assert engine.stats()["draft_tokens_total"] == 0
    assert all(usage_of(found, call).draft_tokens == 0 for call in found.last)
    with_model = BatchEngine(endless, draft=endless)
    run(with_model, without(requests(9, ["off"])))


def test_a_draft_model_drafts_unless_told_otherwise(endless: LoadedModel) -> None:
    engine = BatchEngine(endless, draft=endless)
    assert engine.describe()["speculation"] == ["ngram", "draft"]
    choices: list[tuple[Speculation | None, bool]] = [(None, True), ("draft", True), ("ngram", False)]
    for method, by_model in choices:
        settings = engine._speculator.settings_of(GenerateRequest(prompt="x", speculation=method))
        assert settings is not None and (settings.by_model, settings.most) == (by_model, 15)
    assert engine._speculator.settings_of(GenerateRequest(prompt="x", speculation="off")) is None


def refused(engine: BatchEngine, error: type[Exception], **asked: Any) -> str:
    with pytest.raises(error) as caught:
        engine.submit(1, GenerateRequest(prompt=[1, 2], **asked))
    return str(caught.value)


def test_what_cannot_be_drafted_is_refused_by_name(endless: LoadedModel) -> None:
    plain = BatchEngine(endless)
    assert plain.describe()["speculation"] == ["ngram"]
    message = refused(plain, Unsupported, speculation="draft")
    assert message.startswith("speculation cannot be draft: this host has no draft model for tiny")
    assert refused(plain, InvalidArgument, max_draft_tokens=3).startswith(
        "max_draft_tokens has nothing to bound"
    )
    assert refused(plain, InvalidArgument, speculation="off", max_draft_tokens=3).startswith(
        "max_draft_tokens"
    )
    drafting = BatchEngine(endless, draft=endless)
    regex = read_response_format({"type": "regex", "pattern": "[a-z]+"})
    for method in ("ngram", "draft"):
        message = refused(drafting, Unsupported, speculation=method, response_format=regex)
        assert message.startswith(f"speculation cannot be {method} with response_format")
        request = GenerateRequest(prompt="x", speculation=method, max_reasoning_tokens=3)
        with pytest.raises(Unsupported, match=f"speculation cannot be {method} with max_reasoning_tokens"):
            drafting._speculator.settings_of(request)
        request = GenerateRequest(messages=[], speculation=method, tool_choice="required")
        with pytest.raises(Unsupported, match=f"speculation cannot be {method} with a tool_choice"):
            drafting._speculator.settings_of(request)
    assert drafting._speculator.settings_of(GenerateRequest(prompt="x", response_format=regex)) is None
    assert drafting._speculator.settings_of(GenerateRequest(messages=[], tool_choice="required")) is None
    sliding = another(endless, context_length=None)
    for windows in (
        *(BatchEngine(another(endless, architecture)) for architecture in ("gemma3_text", "mamba", "lfm2")),
        BatchEngine(sliding, EngineLimits(kv_window=24, kv_sinks=2)),
    ):
        assert windows.describe()["speculation"] == []
        for method in ("ngram", "draft"):
            message = refused(windows, Unsupported, speculation=method)
            assert message.startswith(
                f"speculation cannot be {method} for other: its sliding windows or recurrent"
            )


def test_a_model_that_answers_otherwise_over_drafts_drafts_nothing(
    endless: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mlxbridge.host.engine.drafts.speculation.is_exact_over_drafts", lambda *_, **__: False
    )
    message = refused(BatchEngine(endless), Unsupported, speculation="ngram")
    assert "its logits are not the same for several tokens at once as one by one" in message
    with pytest.raises(ModelLoadFailed, match="tiny cannot draft for tiny: its logits"):
        BatchEngine(endless, draft=endless)


def test_a_draft_model_that_cannot_draft_fails_the_load(endless: LoadedModel, tmp_path: Path) -> None:
    for model, draft, reason in (
        (endless, another(endless, "gemma3_text"), "of other cannot take back what it drafted wrong"),
        (another(endless, "gemma3_text"), endless, "cannot take back tokens that were drafted wrong"),
    ):
        with pytest.raises(ModelLoadFailed, match=reason):
            BatchEngine(model, draft=draft)
    save_model(tmp_path)
    save_tokenizer(spm_tokenizer(), tmp_path)
    with pytest.raises(ModelLoadFailed, match="other cannot draft for tiny: their vocabularies differ"):
        BatchEngine(endless, draft=load(tmp_path, "other"))
