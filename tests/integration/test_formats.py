"""Answers held to a format, through the whole bridge."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest

from mlxbridge import AsyncClient, Client
from mlxbridge.errors import InvalidArgument, Unsupported, UsageError
from tests.integration.hosts import HostProcess, on_one_transport

pytestmark = on_one_transport
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 10},
        "sizes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 4},
    },
    "required": ["name", "sizes"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "schema": SCHEMA}


def test_answer_is_what_the_format_allows_and_the_model_says(client: Client) -> None:
    choice = {"type": "choice", "choices": ["27 + 15 = 41.", "27 + 15 = 42.", "27 + 15 = 43."]}
    assert client.chat("What is 27 + 15?", response_format=choice).text == "27 + 15 = 42."


@pytest.mark.parametrize(
    ("response_format", "pattern"),
    [
        ({"type": "regex", "pattern": "[0-9]{3}-[a-z]{3}"}, "[0-9]{3}-[a-z]{3}"),
        ({"type": "grammar", "grammar": 'start: ("<" WORD ">"){2}\nWORD: /[a-z]{1,4}/'}, "(<[a-z]{1,4}>){2}"),
        ({"type": "choice", "choices": ["one", "two"]}, "one|two"),
        ({"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": [1.5, None]}}}, "1.5|null"),
    ],
)
def test_every_type_arrives(client: Client, response_format: dict[str, Any], pattern: str) -> None:
    answer = client.generate("It is ", temperature=1.0, seed=3, response_format=response_format)
    assert re.fullmatch(pattern, answer.text) and answer.finish_reason == "stop"


def test_any_object_may_be_asked_for(client: Client) -> None:
    whole = client.generate("It is ", max_tokens=300, response_format={"type": "json_object"})
    assert whole.text.startswith("{")
    if whole.finish_reason == "stop":
        json.loads(whole.text)


def test_several_answers_are_what_each_seed_gives_alone(client: Client) -> None:
    def ask(seed: int) -> Any:
        return client.generate("A ", temperature=1.2, seed=seed, max_tokens=200, response_format=FORMAT)

    answers = client.generate("A ", temperature=1.2, seed=5, n=4, max_tokens=200, response_format=FORMAT)
    assert [answer.text for answer in answers] == [ask(seed).text for seed in range(5, 9)]
    assert len({answer.text for answer in answers}) > 1
    for answer in answers:
        jsonschema.validate(json.loads(answer.text), SCHEMA)


async def test_stream_has_the_text_as_it_comes(host: HostProcess) -> None:
    async with AsyncClient(host.url, token=host.token) as client:
        async with await client.stream("A ", temperature=1.0, seed=2, response_format=FORMAT) as stream:
            texts = [chunk.text async for chunk in stream]
        assert len(texts) > 3
        jsonschema.validate(json.loads("".join(texts)), SCHEMA)


def test_free_answers_beside_constrained_ones_are_as_alone(client: Client) -> None:
    alone = [client.chat(f"What is 31 + {i}?").text for i in range(12)]

    def ask(number: int) -> str:
        if number % 2:
            return client.chat(f"What is 31 + {number // 2}?").text
        answer = client.generate("A ", temperature=1.5, max_tokens=200, response_format=FORMAT)
        jsonschema.validate(json.loads(answer.text), SCHEMA)
        return ""

    with ThreadPoolExecutor(24) as pool:
        assert list(pool.map(ask, range(24)))[1::2] == alone


@pytest.mark.parametrize(
    ("response_format", "kind", "details"),
    [
        (
            {"type": "regex", "pattern": "a("},
            InvalidArgument,
            {"field": "response_format.pattern", "offset": 1},
        ),
        (
            {"type": "grammar", "grammar": 'start: "a"\n  nothing'},
            InvalidArgument,
            {"field": "response_format.grammar"},
        ),
        (
            {"type": "json_schema", "schema": {"properties": {"a": {"uniqueItems": True}}}},
            Unsupported,
            {"field": "response_format.schema.properties.a.uniqueItems"},
        ),
        (
            {"type": "json_schema", "schema": {"properties": {"a": {"type": "nmber"}}}},
            InvalidArgument,
            {"field": "response_format.schema.properties.a"},
        ),
        ({"type": "xml"}, InvalidArgument, {"field": "response_format.type"}),
    ],
)
def test_refusal_says_where(
    client: Client, response_format: dict[str, Any], kind: type[Exception], details: dict[str, Any]
) -> None:
    with pytest.raises(kind) as caught:
        client.generate("A ", response_format=response_format)
    assert isinstance(caught.value, InvalidArgument | Unsupported)
    assert caught.value.details.items() >= details.items()
    if "grammar" in response_format:
        assert caught.value.details["line"] >= 2 and caught.value.details["column"] >= 1


def test_format_that_cannot_be_sent_is_named(client: Client) -> None:
    with pytest.raises(UsageError) as caught:
        client.generate("A ", response_format={"type": "json_schema", "schema": {"const": object()}})
    assert caught.value.details["field"] == "response_format"
    assert client.ping() > 0
