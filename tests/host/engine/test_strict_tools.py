"""Strict tools where the model decides whether it calls: free before and between calls, and held to schemas in them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mlxbridge.errors import BridgeError, InvalidArgument, Unsupported
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.grammar.response_format import read_response_format
from mlxbridge.host.engine.interface import GenerateRequest
from mlxbridge.host.engine.loader import LoadedModel, load
from tests.host.engine.families import GLM, HERMES, KIMI, Family
from tests.host.engine.scripted import END, save_scripted_model
from tests.host.engine.test_required_calls import (
    BOOK,
    CHAT,
    ENFORCED,
    THINKING,
    WEATHER,
    make_model,
)
from tests.host.engine.tiny import Answers

MakeEngine = Callable[..., BatchEngine]


def tool(name: str, parameters: Any, *, strict: bool = True) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, "strict": strict}}


SCHEMAS = {"get_weather": WEATHER, "add-book": BOOK}
TOOLS = [tool(name, schema) for name, schema in SCHEMAS.items()]
LOOSE = [tool(name, schema, strict=False) for name, schema in SCHEMAS.items()]
SMALL = {
    "type": "object",
    "properties": {"city": {"enum": ["x", "y"]}},
    "required": ["city"],
    "additionalProperties": False,
}
FREE: dict[str, Any] = {"messages": CHAT, "temperature": 1.5}


@pytest.fixture(scope="module", params=ENFORCED, ids=lambda family: family.name)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Its prompt is the same whether tools are strict or not."""
    template = request.param.template.replace("{{ tools }}", "{{ (tools or []) | length }}")
    return make_model(tmp_path_factory.mktemp("models") / "m", request.param, template)


@pytest.fixture(scope="module")
def hermes(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return make_model(tmp_path_factory.mktemp("models") / "hermes", HERMES, THINKING)


def marker(model: LoadedModel) -> int:
    return int(model.tokenizer.convert_tokens_to_ids(model.tokenizer.tool_call_start))


def check_calls(answers: Answers, call: int, finish_reason: str = "tool_calls") -> None:
    """All calls keep to the schemas, but for one that was cut."""
    usage = answers.last[call].usage
    assert usage is not None and usage.finish_reason == finish_reason, answers.last[call]
    found = answers.tool_calls(call)
    assert found
    for each in found[:-1] if usage.completion_tokens == answers.asked[call]["max_tokens"] else found:
        assert not each.malformed, each
        jsonschema.validate(each.arguments, SCHEMAS[each.name])


# -- free text


def test_free_text_is_what_it_is_without_strictness(make_engine: MakeEngine, model: LoadedModel) -> None:
    """Token by token, beside rows of every other kind; EOS ends it as it always does."""
    held, plain = Answers(make_engine(model)), Answers(make_engine(model))
    ends = {"logit_bias": {min(model.eos_ids): 5.0}, "max_tokens": 60}
    for seed in range(6):
        held.submit(seed, **FREE, **ends, tools=TOOLS, seed=seed)
        plain.submit(seed, **FREE, **ends, tools=LOOSE, seed=seed)
    pattern = read_response_format({"type": "regex", "pattern": "[a-z ]{30}"})
    held.submit(90, **FREE, response_format=pattern, max_tokens=40, seed=1)
    held.submit(91, **FREE, tools=TOOLS, tool_choice="required", max_tokens=40, seed=2)
    for answers in (held, plain):
        answers.finish()
    without_calls = [seed for seed in range(6) if not plain.tool_calls(seed)]
    assert len(without_calls) > 2
    reasons = set()
    for seed in without_calls:
        assert (held.tokens[seed], held.texts[seed]) == (plain.tokens[seed], plain.texts[seed])
        usage, other = held.last[seed].usage, plain.last[seed].usage
        assert usage is not None and other is not None
        assert usage.finish_reason == other.finish_reason
        reasons.add(usage.finish_reason)
    assert "stop" in reasons


def test_no_row_is_masked_before_a_call_begins(
    make_engine: MakeEngine, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked: list[int] = []
    module = "mlxbridge.host.engine.grammar.masks"
    from mlxbridge.host.engine.grammar.masks import restrict

    def count(logits: Any, words: Any, places: Any = None) -> Any:
        masked.append(words.shape[0])
        return restrict(logits, words, places)

    monkeypatch.setattr(f"{module}.restrict", count)
    answers = Answers(make_engine(model))
    never = {marker(model): -1000.0, min(model.eos_ids): -1000.0}
    for call in range(2):
        answers.submit(call, **FREE, tools=TOOLS, seed=call, logit_bias=never, max_tokens=20)
    answers.finish()
    assert masked == []
    answers.submit(2, **FREE, tools=TOOLS, seed=1, logit_bias={marker(model): 1000.0}, max_tokens=20)
    answers.finish()
    assert masked and set(masked) == {1}


# -- calls


def test_calls_that_a_model_makes_keep_to_their_schemas(make_engine: MakeEngine, model: LoadedModel) -> None:
    """Of models of random weights, which would write anything: as these do where no tool is strict."""
    liked = {marker(model): 6.0, min(model.eos_ids): -1000.0}
    begins = {"logit_bias": liked, "max_tokens": 1500, "parallel_tool_calls": False}
    held, plain = Answers(make_engine(model)), Answers(make_engine(model))
    for seed in range(4):
        held.submit(seed, **FREE, **begins, tools=TOOLS, seed=seed)
        held.submit(100 + seed, **FREE, max_tokens=20 + seed, seed=seed)
        held.step(seed % 3)
        plain.submit(seed, **FREE, **{**begins, "max_tokens": 60}, tools=LOOSE, seed=seed)
        plain.submit(100 + seed, **FREE, max_tokens=20 + seed, seed=seed)
    held.finish()
    plain.finish()
    for seed in range(4):
        check_calls(held, seed)
        assert all(each.malformed for each in plain.tool_calls(seed))
        assert held.tokens[100 + seed] == plain.tokens[100 + seed]
        both = zip(held.tokens[seed], plain.tokens[seed], strict=False)
        same = list(itertools.takewhile(lambda pair: pair[0] == pair[1], both))
        assert (marker(model),) * 2 in same or len(same) == 60


@pytest.mark.parametrize("family", [HERMES, KIMI], ids=lambda family: family.name)
def test_between_calls_the_model_is_free(make_engine: MakeEngine, tmp_path: Path, family: Family) -> None:
    model = make_model(tmp_path / "m", family)
    answers = Answers(make_engine(model))
    for seed in range(3):
        options = {"logit_bias": {marker(model): 5.0, min(model.eos_ids): -1000.0}, "max_tokens": 200}
        answers.submit(seed, **FREE, **options, tools=[tool("get_weather", SMALL)], seed=seed)
    answers.finish()
    texts = ""
    for seed in range(3):
        *whole, _ = answers.tool_calls(seed)
        assert len(whole) > 1 and {call.text for call in whole} <= {'{"city": "x"}', '{"city": "y"}'}
        texts += answers.texts[seed]
    assert texts.strip()


def test_call_that_is_cut_is_malformed(make_engine: MakeEngine, model: LoadedModel) -> None:
    answers = Answers(make_engine(model))
    answers.submit(1, **FREE, tools=TOOLS, seed=1, logit_bias={marker(model): 1000.0}, max_tokens=9)
    answers.finish()
    usage = answers.last[1].usage
    assert usage is not None and usage.finish_reason == "length"
    assert [call.malformed for call in answers.tool_calls(1)] == [True]


def test_call_begins_again_where_it_was(make_engine: MakeEngine, hermes: LoadedModel) -> None:
    begins = {"logit_bias": {marker(hermes): 6.0}, "max_tokens": 90}
    options = {**FREE, **begins, "tools": [tool("get_weather", SMALL)], "seed": 5}
    alone, other = Answers(make_engine(hermes)), Answers(make_engine(hermes))
    alone.submit(1, **options)
    alone.finish()
    other.submit(1, **options)
    while other.engine.has_work:
        other.step(5)
        for call in other.engine._roster.running():
            other.engine._roster.wait_again(call)
    assert other.tokens[1] == alone.tokens[1]
    assert len(alone.tool_calls(1)) > 1 and alone.texts[1]
    assert [call.text for call in other.tool_calls(1)] == [call.text for call in alone.tool_calls(1)]


# -- models that say word by word what goes against the schema

CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
CHOICES = ({"city": "Rome"}, {"city": "Oslo"})
BROKEN = ["<tool_call>", '\n{"name": "weather", "arguments": ', '{"town": "Rome"}}', "\n", "</tool_call>"]
SCRIPTS = {
    "<scene:wrong>": ["Let me see. ", *BROKEN, " Well.", END],
    "<scene:spelled>": ["<tool", "_call", ">", '\n{"name": "any", "arguments": ', '{"town": 7}}\n', "</tool_call>"],
    "<scene:almost>": ["<tool_cal", "l", "s", "_call>x", END],
    "<think>": ["I ", "must ", "look. ", "<tool_call>"],
    "</think>": ["So. ", "<tool_call>"],
}  # fmt: skip


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("models") / "scripted"
    save_scripted_model(folder, SCRIPTS)
    return load(folder, "scripted")


def say(engine: BatchEngine, scene: str, *tools: dict[str, Any], **options: Any) -> Answers:
    answers = Answers(engine)
    messages = [{"role": "user", "content": f"<scene:{scene}>"}]
    answers.submit(
        1, **{"messages": messages, "tools": tools, "max_tokens": 60, "reasoning": False, **options}
    )
    return answers.finish()


def test_wrong_call_is_put_right_and_the_text_around_it_stays(
    make_engine: MakeEngine, scripted: LoadedModel
) -> None:
    engine = make_engine(scripted)
    loose = say(engine, "wrong", tool("weather", CITY, strict=False))
    assert loose.tool_calls(1)[0].arguments == {"town": "Rome"}
    held = say(engine, "wrong", tool("weather", CITY))
    (call,) = held.tool_calls(1)
    assert call.name == "weather" and call.arguments in CHOICES
    assert held.texts[1] == loose.texts[1] == "Let me see.  Well."
    assert held.last[1].usage is not None and held.last[1].usage.finish_reason == "tool_calls"
    single = say(engine, "wrong", tool("weather", CITY), parallel_tool_calls=False)
    assert single.tool_calls(1)[0].arguments in CHOICES and single.texts[1] == "Let me see. "


def test_tools_that_are_not_strict_take_any_arguments(make_engine: MakeEngine, scripted: LoadedModel) -> None:
    """Behind a marker that is spelled in pieces."""
    loose = tool("any", {"type": "object", "not": {}}, strict=False)
    answers = say(make_engine(scripted), "spelled", loose, tool("weather", CITY))
    (call,) = answers.tool_calls(1)
    assert (call.name, call.arguments) == ("any", {"town": 7})
    held = say(make_engine(scripted), "spelled", tool("any", CITY))
    assert held.tool_calls(1)[0].arguments in CHOICES


def test_what_is_almost_a_marker_is_text(make_engine: MakeEngine, scripted: LoadedModel) -> None:
    answers = say(make_engine(scripted), "almost", tool("weather", CITY))
    assert answers.texts[1] == "<tool_calls_call>x" and not answers.tool_calls(1)


@pytest.mark.parametrize("limit", [None, 1, 2, 3, 4, 5])
def test_call_behind_reasoning_or_amid_it(
    make_engine: MakeEngine, scripted: LoadedModel, limit: int | None
) -> None:
    """Reasoning is over where a call begins, also just where it would have been closed."""
    options = {"reasoning": True, "max_reasoning_tokens": limit}
    answers = say(make_engine(scripted), "wrong", tool("weather", CITY), **options)
    assert answers.last[1].error is None
    (call,) = answers.tool_calls(1)
    assert call.arguments in CHOICES
    assert "I must look. ".startswith(answers.reasoning(1)) and answers.reasoning(1)
    assert answers.texts[1] in ("So.  Well.", " Well.")


# -- what is refused, by name


def refusal(engine: BatchEngine, **request: Any) -> BridgeError:
    answers = Answers(engine)
    try:
        answers.submit(1, **{"messages": CHAT, "tools": TOOLS, **request})
    except BridgeError as error:
        return error
    error_of_row = answers.finish().last[1].error
    assert error_of_row is not None
    return error_of_row


def test_model_whose_calls_are_no_json_is_refused(make_engine: MakeEngine, tmp_path: Path) -> None:
    engine = make_engine(make_model(tmp_path / "m", GLM))
    error = refusal(engine, tools=[*LOOSE[:1], *TOOLS[1:]])
    assert isinstance(error, Unsupported) and error.details == {"field": "tools[1].function.strict"}
    answers = Answers(engine)
    answers.submit(1, messages=CHAT, tools=LOOSE, max_tokens=3)
    answers.submit(2, messages=CHAT, tools=TOOLS, tool_choice="none", max_tokens=3)
    assert answers.finish().last.keys() == {1, 2}


@pytest.mark.parametrize(
    ("given", "kind", "field"),
    [
        ({"tools": [tool("f", {"not": {}})]}, Unsupported, "tools[0].function.parameters.not"),
        ({"tools": [tool("f", {"properties": {"a": {"enum": []}}, "required": ["a"]})]}, InvalidArgument, "tools[0].function.parameters"),
        ({"tools": [tool("f", {"type": "array"})]}, InvalidArgument, "tools[0].function.parameters.type"),
        ({"tools": [tool("</tool_call>", None, strict=False), *TOOLS]}, Unsupported, "tools[0].function.name"),
        ({"ignore_eos": True}, InvalidArgument, "ignore_eos"),
        ({"speculation": "ngram"}, Unsupported, "speculation"),
    ],
)  # fmt: skip
def test_what_cannot_be_held_is_refused(
    make_engine: MakeEngine, hermes: LoadedModel, given: Any, kind: type[BridgeError], field: str
) -> None:
    error = refusal(make_engine(hermes), **given)
    assert isinstance(error, kind) and error.details == {"field": field}


def test_strict_tools_are_held_where_calls_are_made() -> None:
    def holds(**request: Any) -> bool:
        return GenerateRequest(messages=CHAT, **request).holds_calls

    assert holds(tools=TOOLS) and holds(tools=[*LOOSE, *TOOLS])
    assert holds(tools=LOOSE, tool_choice="required")
    assert not holds(tools=LOOSE) and not holds(tools=TOOLS, tool_choice="none") and not holds()
