"""Grammars of every kind, walked at random over a vocabulary, and the errors of those that cannot be compiled."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from llguidance import LLParserLimits

from mlxbridge.errors import BridgeError, InvalidArgument, Unsupported
from mlxbridge.host.engine.grammar import compiler as compiler_module
from mlxbridge.host.engine.grammar.compiler import Compiler, Grammar
from mlxbridge.host.engine.grammar.response_format import read_response_format
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.text.detokenize import Vocabulary
from tests.host.engine.grammar.samples import keeps_to, random_format

END = 1


@pytest.fixture(scope="module")
def spelling(loaded: LoadedModel) -> list[bytes]:
    vocabulary = Vocabulary(loaded.tokenizer)
    return vocabulary.spell(vocabulary.names(), loaded.vocabulary_size)


@pytest.fixture(scope="module")
def compiler(spelling: list[bytes]) -> Compiler:
    return Compiler(spelling)


def compile_format(compiler: Compiler, value: dict[str, Any]) -> Grammar:
    return compiler.compile(read_response_format(value))


def allowed_ids(words: Any) -> list[int]:
    return [int(i) for i in np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))]


def walk(grammar: Grammar, spelling: list[bytes], chance: Random, most: int = 400) -> str | None:
    """One random answer; None if it does not come to an end."""
    constraint, text = grammar.constrain([END], min_tokens=0), b""
    for _ in range(most):
        ids = allowed_ids(constraint.look())
        assert constraint.error is None
        if constraint.has_ended:
            return text.decode()
        token = chance.choice(ids)
        if token == END:
            return text.decode()
        assert spelling[token], "a token that is no text"
        text += spelling[token]
        constraint.take(token)
    return None


@pytest.mark.parametrize("seed", range(12))
def test_random_answers_keep_to_their_format(compiler: Compiler, spelling: list[bytes], seed: int) -> None:
    chance, num_whole = Random(seed), 0
    for _ in range(12):
        response_format = random_format(chance)
        text = walk(compile_format(compiler, response_format), spelling, chance)
        assert text is None or keeps_to(text, response_format), (response_format, text)
        num_whole += text is not None
    assert num_whole >= 8


@pytest.mark.parametrize(
    "text", ["plain", 'quo"te \\ back', "a|b", "/", "\n\t\0\x7f\x1f", "é 日本 😀", "%json {", "(?i)", "<s>"]
)
def test_choice_is_taken_to_the_letter(compiler: Compiler, spelling: list[bytes], text: str) -> None:
    grammar = compile_format(compiler, {"type": "choice", "choices": [text]})
    assert walk(grammar, spelling, Random(0)) == text


def test_answer_may_end_where_a_longer_choice_goes_on(compiler: Compiler, spelling: list[bytes]) -> None:
    grammar = compile_format(compiler, {"type": "choice", "choices": ["yes", "yes!"]})
    assert {walk(grammar, spelling, Random(seed)) for seed in range(20)} == {"yes", "yes!"}


def test_whitespace_is_bounded(compiler: Compiler, spelling: list[bytes]) -> None:
    grammar = compile_format(compiler, {"type": "json_schema", "schema": {"const": [1, 2]}})
    constraint = grammar.constrain([END], min_tokens=0)
    constraint.take(spelling.index(b"["))
    spaces = [spelling.index(b"\n"), *64 * [spelling.index(b" ")]]
    for space in spaces:
        assert space in allowed_ids(constraint.look())
        constraint.take(space)
    rest = {spelling[token] for token in allowed_ids(constraint.look())}
    assert rest and all(data.startswith(b"1") for data in rest)


def test_a_million_of_one_letter_cost_nothing(compiler: Compiler, spelling: list[bytes]) -> None:
    grammar = compile_format(compiler, {"type": "regex", "pattern": "((a{1000}){1000}){1000}"})
    constraint = grammar.constrain([], min_tokens=0)
    assert allowed_ids(constraint.look()) == [spelling.index(b"a")]


@pytest.mark.parametrize(
    ("value", "details", "message"),
    [
        (
            {"type": "grammar", "grammar": 'start: a\na: "x" foo'},
            {"field": "response_format.grammar", "line": 2, "column": 4},
            'unknown name: "foo"',
        ),
        (
            {"type": "grammar", "grammar": 'start: "a"\n\n  b: }'},
            {"field": "response_format.grammar", "line": 3, "column": 6},
            "line 3, column 6",
        ),
        ({"type": "grammar", "grammar": 'begin: "a"'}, {"field": "response_format.grammar"}, "no start rule"),
        (
            {"type": "regex", "pattern": "ab(c"},
            {"field": "response_format.pattern", "offset": 2},
            "unclosed group",
        ),
        (
            {"type": "regex", "pattern": r"\bword\b"},
            {"field": "response_format.pattern"},
            "lookarounds not supported",
        ),
        (
            {"type": "json_schema", "schema": {"anyOf": [{"type": "null"}, {"type": "objct"}]}},
            {"field": "response_format.schema.anyOf[1]"},
            "Invalid type: objct",
        ),
        (
            {
                "type": "json_schema",
                "schema": {
                    "type": "object",
                    "properties": {"a": {"items": {"type": "string", "pattern": "x["}}},
                },
            },
            {"field": "response_format.schema.properties.a.items"},
            "unclosed character class, at 1 of the regex x[",
        ),
        (
            {"type": "json_schema", "schema": {"$ref": "#/$defs/a"}},
            {"field": "response_format.schema"},
            "'/$defs/a' does not exist",
        ),
        (
            {"type": "json_schema", "schema": {"minimum": 5, "maximum": 2, "type": "integer"}},
            {"field": "response_format.schema"},
            "minimum (5) is greater than maximum (2)",
        ),
    ],
)
def test_mistake_is_refused_with_its_place(
    compiler: Compiler, value: dict[str, Any], details: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        compile_format(compiler, value)
    assert caught.value.details == details
    assert message in caught.value.message and "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("schema", "path", "message"),
    [
        ({"type": "string", "format": "iban"}, "", "Unknown format: iban"),
        (
            {"properties": {"a": {"oneOf": [{"type": "string"}, {"type": "string", "minLength": 1}]}}},
            ".properties.a",
            "oneOf constraints are not supported",
        ),
        (
            {"type": "object", "properties": {"a": {}, "b": {}}, "maxProperties": 1, "minProperties": 1},
            "",
            "min/maxProperties only supported",
        ),
    ],
)
def test_what_llguidance_does_not_support_is_refused_by_its_path(
    compiler: Compiler, schema: dict[str, Any], path: str, message: str
) -> None:
    with pytest.raises(Unsupported, match=message) as caught:
        compile_format(compiler, {"type": "json_schema", "schema": schema})
    assert caught.value.details["field"] == f"response_format.schema{path}"
    assert "coerce" not in caught.value.message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"type": "regex", "pattern": "a{0}"}, "no answer but the empty one"),
        ({"type": "grammar", "grammar": "start: a\na: a"}, "no token of the model's"),
    ],
)
def test_grammar_without_an_answer_is_refused(
    compiler: Compiler, value: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        compile_format(compiler, value)


def test_grammar_too_complex_to_look_at_is_refused(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    grammar = "start: " + " | ".join(f'"a" r{i}' for i in range(50)) + "\n"
    grammar += "\n".join(f'r{i}: "x" r{i} "y" | "z{i}"' for i in range(50))
    assert compile_format(compiler, {"type": "grammar", "grammar": grammar})
    monkeypatch.setattr(compiler_module, "_LIMITS", LLParserLimits(step_max_items=20, verbose_errors=False))
    with pytest.raises(InvalidArgument, match="allows no answer: parser error: Too many items"):
        compile_format(compiler, {"type": "grammar", "grammar": grammar})


def test_character_that_no_token_spells_is_refused() -> None:
    with pytest.raises(BridgeError, match="no token of the model's"):
        compile_format(Compiler([b"a", b"b"]), {"type": "regex", "pattern": "c+"})
