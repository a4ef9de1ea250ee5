"""Tool calls that have to be, and formats behind reasoning, of models of random weights: whatever they would say otherwise."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tokenizers import AddedToken

from mlxbridge.errors import BridgeError, InvalidArgument, Unsupported
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.grammar.held_calls import held_calls
from mlxbridge.host.engine.interface import GenerateRequest
from mlxbridge.host.engine.loader import LoadedModel, load
from mlxbridge.host.engine.text.answer_format import call_markers
from mlxbridge.host.engine.text.tool_calls import CallReader
from mlxbridge.host.params import parse_generate
from tests.host.engine.families import FAMILIES, GLM, HERMES, KIMI, MISTRAL, Family
from tests.host.engine.tiny import Answers, byte_level_tokenizer, save_model, save_tokenizer

MakeEngine = Callable[..., BatchEngine]
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"$ref": "#/$defs/city"},
        "days": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
    "$defs": {"city": {"enum": ["Ærøskøbing", 'the "Eternal" one']}},
}
BOOK = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 3, "maxLength": 30},
        "price": {"type": "number"},
        "kind": {"anyOf": [{"const": "new"}, {"type": "null"}, {"type": "boolean"}]},
        "words": {
            "type": "array",
            "items": {"type": "string", "maxLength": 20},
            "minItems": 1,
            "maxItems": 3,
        },
    },
    "required": ["title", "price", "words"],
    "additionalProperties": False,
}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER, "strict": True}},
    {"type": "function", "function": {"name": "now"}},
    {"type": "function", "function": {"name": "add-book", "parameters": BOOK}},
]
SCHEMAS = {"get_weather": WEATHER, "now": {"maxProperties": 0}, "add-book": BOOK}
OLD_MISTRAL = Family(
    "mistral before [ARGS]", "mistral", MISTRAL.template, {"[TOOL_CALLS]": True}, MISTRAL.recordings
)
ENFORCED = (HERMES, MISTRAL, OLD_MISTRAL, KIMI)
THINKING = HERMES.template + "{% if enable_thinking and opens and add_generation_prompt %}<think>{% endif %}"
CHAT = [{"role": "user", "content": "x"}]


def make_model(folder: Path, family: Family, template: str | None = None) -> LoadedModel:
    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens([AddedToken(text, special=special) for text, special in family.tokens.items()])
    save_model(folder, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=4096)
    save_tokenizer(tokenizer, folder, template=template or family.template)
    return load(folder, family.name)


@pytest.fixture(scope="module", params=ENFORCED, ids=lambda family: family.name)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return make_model(tmp_path_factory.mktemp("models") / "m", request.param)


@pytest.fixture(scope="module")
def hermes(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return make_model(tmp_path_factory.mktemp("models") / "hermes", HERMES, THINKING)


def ends_soon(model: LoadedModel) -> dict[int, float]:
    return {min(model.eos_ids): 1000.0}


def bounded(model: LoadedModel) -> dict[str, Any]:
    """Else who is free to think may do so to the last token."""
    return {"max_reasoning_tokens": 12} if model.tokenizer.has_thinking else {}


def check_calls(answers: Answers, call: int, *names: str) -> None:
    usage = answers.last[call].usage
    assert usage is not None and usage.finish_reason == "tool_calls", (answers.last[call], answers.parts)
    found = answers.tool_calls(call)
    assert found and not any(each.malformed for each in found), found
    for each in found:
        assert each.name in (names or SCHEMAS)
        assert json.loads(each.text) == each.arguments
        jsonschema.validate(each.arguments, SCHEMAS[each.name])
    assert not answers.texts[call].strip()


REQUIRED: dict[str, Any] = {"messages": CHAT, "tools": TOOLS, "tool_choice": "required", "max_tokens": 1500}


def test_required_calls_beside_free_answers(make_engine: MakeEngine, model: LoadedModel) -> None:
    answers, alone = Answers(make_engine(model)), Answers(make_engine(model))
    for seed in range(3):
        answers.submit(
            seed, **REQUIRED, **bounded(model), logit_bias=ends_soon(model), temperature=1.5, seed=seed
        )
        free = {"messages": CHAT, "temperature": 1.5, "seed": seed, "max_tokens": 20 + seed}
        answers.submit(100 + seed, **free)
        answers.step(seed % 3)
        alone.submit(100 + seed, **free)
        alone.finish()
    answers.finish()
    for seed in range(3):
        check_calls(answers, seed)
        assert answers.tokens[100 + seed] == alone.tokens[100 + seed]


def test_no_marker_in_a_call_ends_it(make_engine: MakeEngine, model: LoadedModel) -> None:
    """However much the model would like to write there what marks calls."""
    vocabulary = model.tokenizer.get_vocab()
    liked = {vocabulary[marker]: 1000.0 for marker in call_markers(model.tokenizer)}
    answers = Answers(make_engine(model))
    for seed in range(3):
        answers.submit(
            seed,
            **{**REQUIRED, **bounded(model), "tool_choice": {"name": "add-book"}},
            parallel_tool_calls=False,
            logit_bias=liked,
            temperature=1.5,
            seed=seed,
        )
    answers.finish()
    for seed in range(3):
        check_calls(answers, seed, "add-book")


def test_markers_that_are_no_tokens_can_be_kept_to(make_engine: MakeEngine, tmp_path: Path) -> None:
    plain = Family("hermes, spelled", "json_tools", HERMES.template, {}, HERMES.recordings)
    model = make_model(tmp_path / "m", plain)
    answers = Answers(make_engine(model))
    for seed in range(4):
        answers.submit(
            seed, **REQUIRED, **bounded(model), logit_bias=ends_soon(model), temperature=1.5, seed=seed
        )
    answers.submit(
        9, **REQUIRED, **bounded(model), logit_bias=ends_soon(model), temperature=1.5, seed=9, min_tokens=300
    )
    answers.finish()
    for call in (0, 1, 2, 3, 9):
        check_calls(answers, call)
    assert len(answers.tool_calls(9)) > 1


@pytest.mark.parametrize("name", ["get_weather", "now"])
def test_named_call_is_that_one_alone(make_engine: MakeEngine, model: LoadedModel, name: str) -> None:
    answers = Answers(make_engine(model))
    for seed in range(2):
        answers.submit(
            seed,
            **{**REQUIRED, **bounded(model), "tool_choice": {"name": name}},
            parallel_tool_calls=False,
            temperature=1.5,
            seed=seed,
        )
    answers.finish()
    for seed in range(2):
        check_calls(answers, seed, name)
        assert len(answers.tool_calls(seed)) == 1


def test_several_calls_may_be_required_at_once(make_engine: MakeEngine, model: LoadedModel) -> None:
    """Of answers that may end and may not: no EOS before so many tokens."""
    answers = Answers(make_engine(model))
    for seed in range(4):
        answers.submit(
            seed,
            **{**REQUIRED, **bounded(model), "tool_choice": {"name": "now"}},
            min_tokens=150,
            logit_bias=ends_soon(model),
            temperature=1.5,
            seed=seed,
        )
    answers.finish()
    for seed in range(4):
        check_calls(answers, seed, "now")
    assert max(len(answers.tool_calls(seed)) for seed in range(4)) > 1


@pytest.mark.parametrize("opens", [True, False])
def test_reasoning_comes_before_the_call(make_engine: MakeEngine, hermes: LoadedModel, opens: bool) -> None:
    answers = Answers(make_engine(hermes))
    options: dict[str, Any] = {
        **REQUIRED,
        "parallel_tool_calls": False,
        **{"chat_template_kwargs": {"opens": opens}, "temperature": 1.0},
    }
    think = {hermes.tokenizer.think_start_id: 0.0 if opens else 1000.0}
    for seed in range(3):
        answers.submit(seed, **options, seed=seed, max_reasoning_tokens=3 + seed, logit_bias=think)
        answers.submit(100 + seed, **options, seed=seed, reasoning=False)
    answers.finish()
    for seed in range(3):
        check_calls(answers, seed)
        usage = answers.last[seed].usage
        assert usage is not None and usage.reasoning_tokens == 3 + seed
        assert answers.reasoning(seed)
        check_calls(answers, 100 + seed)
        assert not answers.reasoning(100 + seed)


def test_call_begins_again_where_it_was(make_engine: MakeEngine, hermes: LoadedModel) -> None:
    alone, other = Answers(make_engine(hermes)), Answers(make_engine(hermes))
    options: dict[str, Any] = {
        **REQUIRED,
        "parallel_tool_calls": False,
        **{"chat_template_kwargs": {"opens": True}, "temperature": 1.0, "seed": 5, "max_reasoning_tokens": 6},
    }
    alone.submit(1, **options)
    alone.finish()
    other.submit(1, **options)
    while other.engine.has_work:
        other.step(3)
        for call in other.engine._roster.running():
            other.engine._roster.wait_again(call)
    assert other.tokens[1] == alone.tokens[1]
    check_calls(other, 1)


SCHEMA = {"type": "json_schema", "schema": {"enum": ["<think>", "</think><tool_call>"]}}


@pytest.mark.parametrize("opens", [True, False])
def test_format_is_kept_to_behind_reasoning(
    make_engine: MakeEngine, hermes: LoadedModel, opens: bool
) -> None:
    answers = Answers(make_engine(hermes))
    params = {"messages": CHAT, "response_format": SCHEMA, "reasoning": True, "max_reasoning_tokens": 4}
    for seed in range(4):
        request = parse_generate(
            {**params, "chat_template_kwargs": {"opens": opens}, "temperature": 1.0, "seed": seed}
        )
        answers.engine.submit(seed, request)
    answers.finish()
    for seed in range(4):
        assert json.loads(answers.texts[seed]) in ("<think>", "</think><tool_call>")
        usage = answers.last[seed].usage
        assert usage is not None and (usage.reasoning_tokens, usage.finish_reason) == (4, "stop")
        assert answers.reasoning(seed) and not answers.tool_calls(seed)


# -- what is refused, by name


def refusal(engine: BatchEngine, **request: Any) -> BridgeError:
    answers = Answers(engine)
    try:
        answers.submit(1, **{"messages": CHAT, "tools": TOOLS, "tool_choice": "required", **request})
    except BridgeError as error:
        assert not engine.has_work
        return error
    answers.finish()  # one that is found while compiling is the call's end
    error_of_row = answers.last[1].error
    assert error_of_row is not None
    return error_of_row


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if family not in ENFORCED], ids=lambda family: family.name
)
def test_kind_whose_calls_are_no_json_is_refused(loaded: LoadedModel, tmp_path: Path, family: Family) -> None:
    model = replace(loaded, tokenizer=family.tokenizer(tmp_path))
    with pytest.raises(Unsupported, match=f"the calls of tiny are no JSON .{family.parser}.") as caught:
        held_calls(model, GenerateRequest(messages=CHAT, tools=TOOLS, tool_choice="required"))
    assert caught.value.details == {"field": "tool_choice"}


def test_model_whose_calls_cannot_be_enforced_answers_otherwise(
    make_engine: MakeEngine, tmp_path: Path
) -> None:
    engine = make_engine(make_model(tmp_path / "m", GLM))
    assert refusal(engine).details == {"field": "tool_choice"}
    answers = Answers(engine)
    answers.submit(1, messages=CHAT, tools=TOOLS[1:], max_tokens=3)
    answers.finish()
    assert answers.last[1].usage is not None


def test_call_that_must_not_end_is_refused(make_engine: MakeEngine, hermes: LoadedModel) -> None:
    error = refusal(make_engine(hermes), ignore_eos=True)
    assert isinstance(error, InvalidArgument) and error.details == {"field": "ignore_eos"}
    assert "tool_choice" in error.message


@pytest.mark.parametrize(
    ("parameters", "kind", "field"),
    [
        ({"type": "object", "not": {}}, Unsupported, "tools[0].function.parameters.not"),
        ({"type": "array"}, InvalidArgument, "tools[0].function.parameters.type"),
        (
            {"properties": {"a": {"uniqueItems": True}}},
            Unsupported,
            "tools[0].function.parameters.properties.a.uniqueItems",
        ),
        (
            {"properties": {"a": {"pattern": "("}}},
            InvalidArgument,
            "tools[0].function.parameters.properties.a",
        ),
        (
            {"properties": {"a": {"enum": ["x", "</tool_call>"]}}},
            Unsupported,
            "tools[0].function.parameters.properties.a.enum",
        ),
        (
            {"properties": {"</tool_call>": {}}},
            Unsupported,
            "tools[0].function.parameters.properties",
        ),
        (
            {"properties": {"a": {"enum": []}}, "required": ["a"]},
            InvalidArgument,
            "tools[0].function.parameters",
        ),
    ],
)
def test_parameters_that_cannot_be_enforced_are_refused(
    make_engine: MakeEngine, hermes: LoadedModel, parameters: Any, kind: type[BridgeError], field: str
) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    error = refusal(make_engine(hermes), tools=tools)
    assert isinstance(error, kind) and error.details == {"field": field}


def test_more_schemas_than_can_be_compiled_are_refused(hermes: LoadedModel) -> None:
    parameters = {"type": "object", "description": "x" * 70_000}
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    with pytest.raises(InvalidArgument) as caught:
        held_calls(hermes, GenerateRequest(messages=CHAT, tools=tools, tool_choice="required"))
    assert caught.value.details == {"field": "tools"}


def test_name_that_a_call_has_no_place_for_is_refused(make_engine: MakeEngine, tmp_path: Path) -> None:
    tools = [TOOLS[1], {"type": "function", "function": {"name": "two words"}}]
    error = refusal(make_engine(make_model(tmp_path / "m", MISTRAL)), tools=tools)
    assert isinstance(error, Unsupported) and error.details == {"field": "tools[1].function.name"}


def test_number_beyond_float64_is_still_an_argument(hermes: LoadedModel) -> None:
    reader = CallReader(hermes.tokenizer.tool_parser, TOOLS)
    (call,) = reader.read('{"name": "f", "arguments": {"a": [1e999, {"b": -1e999}], "c": 1e9}}')
    assert call.arguments == {"a": [sys.float_info.max, {"b": -sys.float_info.max}], "c": 1e9}
    assert json.loads(call.text) == call.arguments
