"""Schemas as Ollama reads them: objects have the properties that are named, and no others."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from ollama import Client
from pydantic import BaseModel

from mlxbridge.guest.gateway.ollama.formats import close_objects, read_format

A: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
B: dict[str, Any] = {"properties": {"b": {"type": "integer"}}}
CLOSED = {"additionalProperties": False}
INNER = {"x": A | CLOSED, "y": {"type": "array", "items": A | CLOSED}}
A_REF, B_REF = {"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}


@pytest.mark.parametrize(
    ("given", "closed"),
    [
        (A, A | CLOSED),
        ({"properties": {"x": A, "y": {"type": "array", "items": A}}}, {"properties": INNER} | CLOSED),
        ({"$defs": {"A": A}, **A_REF}, {"$defs": {"A": A | CLOSED}, **A_REF}),
        ({"anyOf": [A, {"type": "null"}]}, {"anyOf": [A | CLOSED, {"type": "null"}]}),
        ({"allOf": [A]}, {"allOf": [A | CLOSED]}),
        ({"type": ["object", "null"], **B}, {"type": ["object", "null"], **B} | CLOSED),
        ({"properties": {}}, {"properties": {}} | CLOSED),
    ],
)
def test_objects_are_closed(given: dict[str, Any], closed: dict[str, Any]) -> None:
    before = repr(given)
    assert close_objects(given) == closed
    assert repr(given) == before


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        A | {"additionalProperties": True},
        A | {"additionalProperties": {"type": "string"}},
        {"allOf": [A, B]},  # either would refuse what the other one names
        {"$defs": {"A": A, "B": {**B_REF}}, "allOf": [A_REF, {"type": "object"}]},
        {**A, "anyOf": [B, {"properties": {"c": {}}}]},
        {"$defs": {"A": A}, **A_REF, **B},
        {"properties": {"a": {}}, "required": ["a", "b"]},
        {"properties": {"a": {}}, "required": [["a"]]},  # which the host refuses
        {"const": A, "enum": [A], "default": A, "examples": [A]},
        {"$defs": {"A": {"anyOf": [{"type": "null"}, A_REF]}}, **A_REF},
        {"$ref": "#/$defs/nowhere", "properties": 5, "items": True, "anyOf": None},
    ],
)
def test_other_schemas_are_as_they_were(schema: dict[str, Any]) -> None:
    assert close_objects(schema) == schema


def test_format_is_the_hosts() -> None:
    assert read_format(A) == {"type": "json_schema", "schema": A | CLOSED}
    assert (read_format("json"), read_format("")) == ({"type": "json_object"}, None)


def test_schema_that_no_host_takes_is_left_to_it_at_once() -> None:
    schema = {"type": "object", "properties": {f"{number}": A for number in range(5000)}}
    assert read_format(schema) == {"type": "json_schema", "schema": schema}


class Mood(BaseModel):
    mood: Literal["good", "bad"]
    ok: bool


class Day(BaseModel):
    moods: tuple[Mood, Mood]


def test_answer_of_ollamas_own_example_ends(ollama: Client) -> None:
    chat = [{"role": "user", "content": "What is 27 + 15?"}]
    answer = ollama.chat("demo:latest", chat, format=Day.model_json_schema(), options={"num_predict": 200})
    assert answer.done_reason == "stop"
    assert len(Day.model_validate_json(answer.message.content or "").moods) == 2
