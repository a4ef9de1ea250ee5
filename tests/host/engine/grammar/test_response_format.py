"""What ``response_format`` may be, and what is refused by which name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxbridge.errors import BridgeError, InvalidArgument, Unsupported
from mlxbridge.host.engine.grammar.response_format import MAX_CHARS, Source, read_response_format

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("value", "source"),
    [
        (
            {"type": "json_schema", "schema": SCHEMA},
            Source("json_schema", "response_format.schema", json.dumps(SCHEMA)),
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}},
            Source("json_schema", "response_format.json_schema.schema", json.dumps(SCHEMA)),
        ),
        ({"type": "json_object"}, Source("json_schema", "response_format.type", '{"type": "object"}')),
        ({"type": "regex", "pattern": "a+"}, Source("regex", "response_format.pattern", "a+")),
        (
            {"type": "grammar", "grammar": 'start: "a"'},
            Source("grammar", "response_format.grammar", 'start: "a"'),
        ),
        (
            {"type": "choice", "choices": ["é", "b"]},
            Source("choice", "response_format.choices", '["é", "b"]'),
        ),
    ],
)
def test_every_type_is_read(value: dict[str, Any], source: Source) -> None:
    assert read_response_format(value) == source


def test_order_of_properties_is_kept() -> None:
    schema = {"type": "object", "properties": {"z": True, "a": True}}
    assert list(json.loads(read_response_format({"type": "json_schema", "schema": schema}).text)) == [
        "type",
        "properties",
    ]
    assert '"z": true, "a"' in read_response_format({"type": "json_schema", "schema": schema}).text


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("json", "response_format"),
        ({}, "response_format.type"),
        ({"type": "json"}, "response_format.type"),
        ({"type": ["regex"]}, "response_format.type"),
        ({"type": "object", "properties": {}}, "response_format"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {}}}, "response_format"),
        ({"type": "json_schema"}, "response_format.schema"),
        ({"type": "json_schema", "schema": "{}"}, "response_format.schema"),
        ({"type": "json_schema", "json_schema": SCHEMA["type"]}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"name": "n"}}, "response_format.json_schema.schema"),
        (
            {"type": "json_schema", "json_schema": {"name": 3, "schema": {}}},
            "response_format.json_schema.name",
        ),
        (
            {"type": "json_schema", "json_schema": {"strict": "yes", "schema": {}}},
            "response_format.json_schema.strict",
        ),
        ({"type": "regex"}, "response_format.pattern"),
        ({"type": "regex", "pattern": ""}, "response_format.pattern"),
        ({"type": "regex", "pattern": 3}, "response_format.pattern"),
        ({"type": "regex", "pattern": "a" * (MAX_CHARS + 1)}, "response_format.pattern"),
        ({"type": "regex", "pattern": "\ud800"}, "response_format.pattern"),
        ({"type": "grammar", "grammar": None}, "response_format.grammar"),
        ({"type": "choice", "choices": []}, "response_format.choices"),
        ({"type": "choice", "choices": "abc"}, "response_format.choices"),
        ({"type": "choice", "choices": ["a", ""]}, "response_format.choices[1]"),
        ({"type": "choice", "choices": ["a", 2]}, "response_format.choices[1]"),
        ({"type": "choice", "choices": ["a" * 40_000, "b" * 40_000]}, "response_format.choices"),
    ],
)
def test_wrong_value_is_refused_by_name(value: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_response_format(value)
    assert caught.value.details == {"field": field}
    assert caught.value.message.startswith(field) and len(caught.value.message) <= 300


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"type": "json_object", "schema": {}}, "response_format.schema"),
        ({"type": "regex", "pattern": "a", "flags": "i"}, "response_format.flags"),
        ({"type": "json_schema", "json_schema": {"schema": {}}, "schema": {}}, "response_format.schema"),
        (
            {"type": "json_schema", "json_schema": {"schema": {}, "description": "d"}},
            "response_format.json_schema.description",
        ),
        ({"type": "json_schema", "schema": {"uniqueItems": True}}, "response_format.schema.uniqueItems"),
        (
            {"type": "json_schema", "json_schema": {"schema": {"not": {}}}},
            "response_format.json_schema.schema.not",
        ),
    ],
)
def test_what_would_be_dropped_is_refused_by_name(value: Any, field: str) -> None:
    with pytest.raises(Unsupported) as caught:
        read_response_format(value)
    assert caught.value.details["field"] == field


def test_refusal_of_a_huge_key_is_short() -> None:
    with pytest.raises(BridgeError) as caught:
        read_response_format({"type": "regex", "pattern": "a", "x" * 100_000: 1})
    assert len(caught.value.message) <= 300 and len(caught.value.details["field"]) < 200
