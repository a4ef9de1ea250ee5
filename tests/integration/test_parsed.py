"""Answers as objects of the type that was asked for, through the whole bridge."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict

import pytest
from pydantic import BaseModel, Field

from mlxbridge import AsyncClient, Client, TypedGeneration
from mlxbridge.errors import InvalidArgument, UnreadableAnswer, UsageError
from mlxbridge.types import ManyPrompt
from tests.guest.shapes import Mood, Pick, Size
from tests.integration.hosts import HostProcess, on_one_transport

pytestmark = on_one_transport
Digits = Annotated[str, Field(max_length=3)]


class Capital(Enum):
    BERLIN = "Berlin"
    PARIS = "Paris"


@dataclass
class Answer:
    capital: Literal["Berlin", "Paris", "Rome"]


class Pair(TypedDict):
    left: bool
    right: Size


class Model(BaseModel):
    mood: Mood
    size: int = Field(ge=1, le=9)
    note: Digits = ""


@dataclass
class Nested:
    pick: Pick
    pair: Pair
    models: tuple[Model, Model]
    flag: bool | None


def test_answer_is_the_object_that_the_model_says(client: Client) -> None:
    answer = client.chat("What is the capital of France?", response_format=Answer)
    assert answer.parsed == Answer("Paris")
    assert client.chat("What is the capital of France?", response_format=Capital).parsed is Capital.PARIS


@pytest.mark.parametrize(
    "kind",
    [bool, Size, Mood, Literal["a", "b"], Literal[1, "b"], Pick, Pair, Model, Nested, tuple[bool, Size]],
)
def test_answers_of_every_type_are_objects_of_it(client: Client, kind: Any) -> None:
    answers = client.generate("It is ", response_format=kind, temperature=1.0, seed=1, n=3)
    for answer in answers:
        assert isinstance(answer, TypedGeneration) and answer.finish_reason == "stop"
        parsed = answer.parsed
        if isinstance(kind, type) and kind is not Pair:
            assert isinstance(parsed, kind)
    if kind is Nested:
        nested = answers[0].parsed
        assert isinstance(nested.pick, Pick) and isinstance(nested.pick.mood, Mood)
        assert isinstance(nested.models[1], Model) and nested.pair["right"] in Size


def test_stream_has_it_at_its_end(client: Client) -> None:
    with client.chat("What is the capital of France?", response_format=Answer, stream=True) as stream:
        for _ in stream:
            pass
    assert stream.generation.parsed == Answer("Paris")


async def test_async_client_gives_objects_too(host: HostProcess) -> None:
    async with AsyncClient(host.url, token=host.token, timeout=60) as client:
        answer = await client.chat("What is the capital of France?", response_format=Answer)
        assert answer.parsed == Answer("Paris")
        stream = await client.chat("What is the capital of France?", response_format=Capital, stream=True)
        assert (await stream.read()).parsed is Capital.PARIS
        (one,) = await client.chat("What is the capital of France?", response_format=Capital, n=1)
        assert one.parsed is Capital.PARIS


def test_cut_answer_is_an_error_with_its_text(client: Client) -> None:
    answer = client.generate("It is ", response_format=list[int], max_tokens=1)
    with pytest.raises(UnreadableAnswer, match="cut off after 1 tokens: give a larger max_tokens") as caught:
        answer.parsed  # noqa: B018
    assert caught.value.text == answer.text
    stopped = client.generate("It is ", response_format=Pick, stop=["mood"])
    with pytest.raises(UnreadableAnswer, match="by the stop text 'mood'") as caught:
        stopped.parsed  # noqa: B018
    assert caught.value.text == stopped.text
    assert "mood" not in stopped.text
    assert not caught.value.retryable


def test_maps_have_their_json_or_their_text(client: Client) -> None:
    schema = {"type": "json_schema", "schema": {"enum": [[1, 2]]}}
    assert client.generate("x", response_format=schema).parsed == [1, 2]
    regex = {"type": "regex", "pattern": "ab"}
    assert client.generate("x", response_format=regex).parsed == "ab"


def test_answer_that_was_to_keep_to_nothing_is_no_object(client: Client) -> None:
    with pytest.raises(UsageError, match="^parsed: .*response_format"):
        client.chat("What is 27 + 15?").parsed  # noqa: B018


def test_typed_answers_can_be_kept(client: Client) -> None:
    answer = client.chat("What is the capital of France?", response_format=Answer)
    assert pickle.loads(pickle.dumps(answer)).text == answer.text
    assert "response_format" not in repr(answer)


def test_prompts_of_a_batch_keep_to_types_too(client: Client) -> None:
    prompts: list[ManyPrompt] = [
        "It is ",
        {"prompt": "x", "response_format": Size},
        {"prompt": "x", "top_p": 9},
    ]
    with client.generate_many(prompts, response_format=Mood) as outcomes:
        first, second, third = sorted(outcomes, key=lambda outcome: outcome.index)
    assert first.parsed in Mood and second.parsed in Size
    with pytest.raises(InvalidArgument, match="top_p"):
        _ = third.parsed
    (cut,) = client.generate_many(["x"], response_format=list[int], max_tokens=1)
    with pytest.raises(UnreadableAnswer, match="cut off after 1 tokens"):
        _ = cut.parsed
    (free,) = client.generate_many(["x"], max_tokens=1)
    with pytest.raises(UsageError, match="^parsed: "):
        _ = free.parsed


def test_stop_text_leaves_no_half_of_a_number(client: Client) -> None:
    answer = client.generate("x", response_format=Literal[123], stop=["3"])
    assert answer.text == "12"
    with pytest.raises(UnreadableAnswer, match="cut off by the stop text '3'"):
        _ = answer.parsed


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (bytes, "^response_format: cannot be said as a JSON schema: bytes"),
        (list[complex], r"^response_format\[\]: "),
        ("json", "^response_format: must be a Python type, or a map"),
    ],
)
def test_type_that_json_has_not_is_refused(client: Client, kind: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        client.generate("x", response_format=kind)
