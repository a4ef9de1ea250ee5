from __future__ import annotations

from typing import Any

import pytest

from mlxbridge.errors import BridgeError, InvalidArgument, Unsupported
from mlxbridge.host.engine.grammar.json_schema import (
    MAX_DEPTH,
    MAX_PATTERN_PROPERTIES,
    check_schema,
    subschemas,
)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "T", "description": "d"},
        {"type": "object", "properties": {"not": {"type": "string"}, "uniqueItems": True}},
        {"const": {"not": {"anything": [{"uniqueItems": 1}]}}, "default": {"if": 1}, "examples": [{"if": 1}]},
        {"enum": [2**53, -(2**53), 0.5, None, "é"]},
        {"$defs": {"if": {"type": "array", "items": False}}, "$ref": "#/$defs/if"},
        {"items": [{"type": "string"}], "additionalItems": False},
    ],
)
def test_schema_that_can_be_kept_to_passes(schema: dict[str, Any]) -> None:
    check_schema("s", schema)


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"uniqueItems": True}, "s.uniqueItems"),
        ({"properties": {"a": {"items": {"contains": {}}}}}, "s.properties.a.items.contains"),
        ({"properties": {"a b": {"not": {}}}}, 's.properties["a b"].not'),
        ({"anyOf": [{}, {"if": {}}]}, "s.anyOf[1].if"),
        ({"prefixItems": [{"allOf": [{"nullable": True}]}]}, "s.prefixItems[0].allOf[0].nullable"),
        ({"additionalProperties": {"propertyNames": {}}}, "s.additionalProperties.propertyNames"),
        ({"$defs": {"unused": {"dependentRequired": {}}}}, "s.$defs.unused.dependentRequired"),
        ({"x-guidance": {"lenient": True}}, 's["x-guidance"]'),
        ({"contentEncoding": "base64"}, "s.contentEncoding"),
        ({"const": 2**53 + 1}, "s.const"),
    ],
)
def test_what_an_answer_cannot_be_held_to_is_refused_by_its_path(schema: dict[str, Any], path: str) -> None:
    with pytest.raises(Unsupported) as caught:
        check_schema("s", schema)
    assert caught.value.details == {"field": path}
    assert caught.value.message.startswith(f"{path} ")


def test_slip_of_the_finger_gets_a_hint() -> None:
    with pytest.raises(Unsupported, match="did you mean 'required'"):
        check_schema("s", {"requierd": ["a"]})
    with pytest.raises(Unsupported, match="would not be kept to"):
        check_schema("s", {"uniqueItems": True})


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"const": b"bytes"},
        {"minimum": float("nan")},
        {"enum": [float("inf")]},
        {"properties": {3: {}}},
        [],
        None,
        nested(MAX_DEPTH),
    ],
)
def test_what_is_no_json_is_refused(schema: Any) -> None:
    with pytest.raises(InvalidArgument):
        check_schema("s", schema)
    check_schema("s", nested(MAX_DEPTH - 1))


def test_path_of_long_names_is_short() -> None:
    with pytest.raises(BridgeError) as caught:
        check_schema("s", {"properties": {"n" * 5000: {"properties": {"m" * 5000: {"not": {}}}}}})
    path = caught.value.details["field"]
    assert len(path) < 130 and path.startswith("s.properties.nnn") and path.endswith("mmm.not")


def test_patterns_that_must_all_be_compared_are_few() -> None:
    def patterns(count: int) -> dict[str, Any]:
        return {"patternProperties": {f"^{i}$": {} for i in range(count)}}

    check_schema("s", {"items": patterns(MAX_PATTERN_PROPERTIES)})
    with pytest.raises(Unsupported, match="17 patterns"):
        check_schema("s", {"items": patterns(MAX_PATTERN_PROPERTIES), **patterns(1)})


def test_subschemas_come_before_those_inside_them() -> None:
    schema = {"properties": {"a": {"items": {"const": 1}}, "b": True}, "anyOf": [{"type": "null"}]}
    paths = [path for path, _ in subschemas("s", schema)]
    assert set(paths) == {"s", "s.properties.a", "s.properties.a.items", "s.anyOf[0]"}
    assert paths.index("s") < paths.index("s.properties.a") < paths.index("s.properties.a.items")
