"""Types to JSON schemas, and JSON to objects of the types again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from typing import Annotated, Any, Literal, Optional, TypedDict
from uuid import UUID

import jsonschema
import pytest

from mlxbridge.errors import UnreadableAnswer, UsageError
from mlxbridge.guest.formats import read_answer
from mlxbridge.guest.schemas import schema_of
from mlxbridge.guest.values import plain_value, read_value
from mlxbridge.host.engine.grammar.json_schema import check_schema
from mlxbridge.types import Usage
from tests.guest.shapes import City, Even, Mood, Person, Place, Report, Size, Weather

PARIS = {"name": "Paris", "population": None, "place": {"country": "France"}}


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (Any, {}),
        (list, {"type": "array"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (dict, {"type": "object"}),
        (date, {"type": "string", "format": "date"}),
        (list[datetime], {"type": "array", "items": {"type": "string", "format": "date-time"}}),
        (Literal["a", 3], {"enum": ["a", 3]}),
        (Mood, {"enum": ["good", "bad"]}),
        (Size, {"enum": [1, 2]}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),  # noqa: UP045
        (Annotated[int, "A number."], {"type": "integer", "description": "A number."}),
        (
            Place,
            {
                "type": "object",
                "properties": {"country": {"type": "string"}, "region": {"type": "string"}},
                "required": ["country"],
                "additionalProperties": False,
            },
        ),
    ],
)
def test_type_has_its_schema(kind: Any, schema: dict[str, Any]) -> None:
    assert schema_of(kind, "x") == schema


def test_class_that_refers_to_itself_is_defined_once() -> None:
    schema = schema_of(Person, "x")
    assert schema["$ref"] == "#/$defs/Person"
    friends = schema["$defs"]["Person"]["properties"]["friends"]
    assert friends == {"type": "array", "items": {"$ref": "#/$defs/Person"}}
    assert schema["$defs"]["Person"]["required"] == ["name"]


def test_two_classes_of_one_name_are_told_apart() -> None:
    class Place(TypedDict):
        street: str

    both = schema_of(tuple[City, Place], "x")
    assert {"Place", "Place2"} <= both["$defs"].keys()
    assert both["prefixItems"][1] == {"$ref": "#/$defs/Place2"}


class Dated(TypedDict):
    when: timedelta


class Odd(Enum):
    WHEN = datetime(2026, 1, 1)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (timedelta, "x"),
        (bytes, "x"),
        (set[int], "x"),
        (dict[int, str], "x"),
        (list[dict[str, bytes]], r"x\[\]\.\*"),
        (Odd, "x"),
        (Literal[b"a"], "x"),
        (Annotated[int, 3], "x"),
        (Dated, r"x\.when"),
        (int | complex, "x"),
        (3, "x"),
        ([str], "x"),
        (dict[str, {int}], r"x\.\*"),  # type: ignore[misc]
    ],
)
def test_what_json_has_not_is_refused_by_its_place(kind: Any, field: str) -> None:
    with pytest.raises(UsageError, match=f"^{field}: cannot be said as a JSON schema: "):
        schema_of(kind, "x")


def test_hint_that_names_nothing_is_refused() -> None:
    class Broken(TypedDict):
        inner: Nobody  # type: ignore[name-defined]  # noqa: F821

    class Misspelt(TypedDict):
        inner: int.nothing  # type: ignore[name-defined]

    class Unfinished(TypedDict):
        inner: "int |"  # type: ignore[valid-type]  # noqa: F722, UP037

    for kind in (Broken, Misspelt, Unfinished):
        with pytest.raises(UsageError, match=f"x: the type hints of {kind.__name__} cannot be read"):
            schema_of(kind, "x")


@pytest.mark.parametrize("kind", [City, Person, Place, Weather, Report, list[City], tuple[int, str], Mood])
def test_host_takes_the_schema(kind: Any) -> None:
    check_schema("x", schema_of(kind, "x"))


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        (float, 3, 3.0),
        (int, 3.0, 3),
        (Mood, "bad", Mood.BAD),
        (Literal["a", 1], 1, 1),
        (int | float, 2.5, 2.5),
        (float | str, 2, 2.0),
        (str | None, None, None),
        (list[Mood], ["good"], [Mood.GOOD]),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[int, ...], [1, 2], (1, 2)),
        (dict[str, Size], {"a": 2}, {"a": Size.LARGE}),
        (Place, {"country": "x"}, {"country": "x"}),
        (Person, {"name": "A"}, Person("A")),
        (Person, {"name": "A", "friends": [{"name": "B", "age": 3}]}, Person("A", 0, [Person("B", 3)])),
        (City, PARIS, City("Paris", None, {"country": "France"})),
        (City | Person, {"name": "A"}, Person("A")),
        (Weather, {"city": "Rome", "degrees": 20}, Weather(city="Rome", degrees=20.0)),
        (Report, {"weather": {"city": "Rome", "degrees": 2}}, Report(Weather(city="Rome", degrees=2.0))),
        (Any, {"a": [1]}, {"a": [1]}),
    ],
)
def test_json_becomes_the_object(kind: Any, value: Any, made: Any) -> None:
    jsonschema.validate(value, schema_of(kind, "x"))
    read = read_value(kind, json.loads(json.dumps(value)), "x")
    assert read == made and type(read) is type(made)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (int, True, "x: must be a whole number, not True"),
        (bool, 1, "x: must be true or false, not 1"),
        (int, 2.5, "x: must be a whole number"),
        (str, None, "x: must be a text"),
        (Literal["a", 1], True, "x: must be one of 'a', 1, not True"),
        (Mood, ["good"], "x: must be one of 'good', 'bad'"),
        (int | None, "a", "x: must be a whole number, not 'a'; or x: must be null"),
        (list[int], [1, "a"], r"x\[1\]: must be a whole number"),
        (dict[str, int], {"a": "b"}, r"x\.a: must be a whole number"),
        (tuple[int, str], [1], "x: must have 2 members, not 1"),
        (Place, {}, "x: lacks country"),
        (City, {**PARIS, "name": 3}, r"x\.name: must be a text"),
        (City, {**PARIS, "mood": "odd"}, r"x\.mood: must be one of"),
        (City, {**PARIS, "colour": "red"}, "x: there is no 'colour'; there are name, "),
        (City, [], "x: must be an object"),
        (Even, {"number": 3}, "x: it is odd"),
        (Weather, {"city": "Rome", "degrees": 100}, r"x: [\s\S]*less than or equal to 60"),
    ],
)
def test_value_of_another_type_is_refused_by_its_place(kind: Any, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        read_value(kind, value, "x")


def test_answer_that_is_nested_too_deep_cannot_be_read() -> None:
    usage = Usage(finish_reason="stop", prompt_tokens=1, completion_tokens=1)
    with pytest.raises(UnreadableAnswer) as caught:
        read_answer({"type": "json_schema", "schema": {}}, "[" * 100_000, usage)
    assert caught.value.text == "[" * 100_000


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (date, "2024-02-29", date(2024, 2, 29)),
        (time, "10:30:00Z", time(10, 30, tzinfo=UTC)),
        (datetime, "2024-02-29T10:30:00Z", datetime(2024, 2, 29, 10, 30, tzinfo=UTC)),
        (UUID, "12345678-1234-5678-1234-567812345678", UUID(int=0x12345678123456781234567812345678)),
    ],
)
def test_text_of_a_format_is_an_object_and_back(kind: Any, text: str, value: Any) -> None:
    check_schema("x", schema_of(kind, "x"))
    assert read_value(list[kind], [text], "answer") == [value]
    assert read_value(kind, plain_value(value), "answer") == value
    for wrong in ("2023-02-29", 3):
        with pytest.raises(ValueError, match="^answer: "):
            read_value(kind, wrong, "answer")
