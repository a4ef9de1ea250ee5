"""Reasoning and tool calls of a model that thinks and calls, through the whole bridge and both clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxbridge import AsyncClient, Chunk, Client, Message, ToolCall
from mlxbridge.errors import InvalidArgument, Unsupported
from mlxbridge.types import ToolChoice
from tests.guest.shapes import Mood, Pick, Size
from tests.host.engine.scripted import END, save_scripted_model
from tests.integration.hosts import TRANSPORTS, HostProcess, run_host
from tests.integration.test_answers import wait_until_idle

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
UNLIKE = {"type": "function", "function": {"name": "f", "parameters": {"not": {"required": ["a"]}}}}
UNLIKE_FIELD = "tools[0].function.parameters.not"
SCRIPTS = {
    "<think>": [
        "I ",
        "must ",
        "look.",
        "</think>",
        "Let me see. ",
        "<tool_call>",
        '{"name": "get_weather", ',
        '"arguments": {"city": ',
        '"東京"}}',
        "</tool_call>",
        END,
    ],
    "<scene:result>": ["It ", "rains.", END],
    "<scene:forever>": ["on ", "on, ", "on "],
}
TOLD = ("Let me see. ", "I must look.", {"city": "東京"})


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    folder: Path = tmp_path_factory.mktemp("models") / "caller"
    save_scripted_model(folder, SCRIPTS)
    with run_host(TRANSPORTS[0], models=(str(folder),)) as running:
        with running.client() as client:
            client.load_model("caller", timeout=120)
        yield running


def told(chunks: list[Chunk]) -> tuple[str, str, Any]:
    (call,) = [call for chunk in chunks for call in chunk.tool_calls]
    text, reasoning = ("".join(getattr(chunk, name) for chunk in chunks) for name in ("text", "reasoning"))
    return text, reasoning, call.arguments


def test_stream_tells_as_it_comes(client: Client) -> None:
    with client.chat("Weather?", tools=[WEATHER], stream=True) as stream:
        chunks = list(stream)
    assert told(chunks) == TOLD
    first_text = next(index for index, chunk in enumerate(chunks) if chunk.text)
    assert any(chunk.reasoning for chunk in chunks[:first_text])
    assert not any(chunk.reasoning for chunk in chunks[first_text:])
    whole = stream.generation
    assert (whole.text, whole.reasoning, whole.tool_calls[0].arguments) == TOLD
    assert (whole.finish_reason, whole.usage.reasoning_tokens) == ("tool_calls", 3)
    assert whole.token_ids == [token for chunk in chunks for token in chunk.token_ids]


async def test_stream_tells_async_clients_too(host: HostProcess) -> None:
    async with AsyncClient(host.url, token=host.token, timeout=60) as client:
        stream = await client.chat("Weather?", tools=[WEATHER], logprobs=1, stream=True)
        chunks = [chunk async for chunk in stream]
        assert told(chunks) == TOLD
        assert all(len(chunk.logprobs or []) == len(chunk.token_ids) for chunk in chunks)


def test_conversation_with_a_tool(client: Client) -> None:
    messages: list[Message] = [{"role": "user", "content": "Weather?"}]
    asked = client.chat(messages, tools=[WEATHER])
    (call,) = asked.tool_calls
    assert json.loads(call.text) == call.arguments and not call.malformed
    messages += [asked.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    answer = client.chat(messages, tools=[WEATHER], reasoning=False)
    assert (answer.text, answer.finish_reason, answer.tool_calls) == ("It rains.", "stop", ())
    assert answer.message == {"role": "assistant", "content": "It rains."}


def get_weather(city: str) -> str:
    """The weather.

    Args:
        city: where.
    """
    return f"rain in {city}"


def test_tools_are_run_until_there_is_an_answer(client: Client) -> None:
    done = client.run_tools("Weather?", [get_weather])
    assert (str(done), done.num_rounds) == ("It rains.", 1)
    assert [message.get("content") for message in done.messages] == [
        *["Weather?", "Let me see. ", "rain in 東京", "It rains."]
    ]


async def test_async_tools_are_run_too(host: HostProcess) -> None:
    async def get_weather(city: str) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"city": city, "rain": True}

    async with AsyncClient(host.url, token=host.token, timeout=60) as client:
        done = await client.run_tools("Weather?", [get_weather], max_reasoning_tokens=2)
    assert json.loads(str(done.messages[2]["content"])) == {"city": "東京", "rain": True}
    assert str(done) == "It rains."


def test_call_that_has_to_be_keeps_to_a_functions_types(client: Client) -> None:
    picked: list[Pick] = []

    def choose(pick: Pick, others: bool) -> str:
        picked.append(pick)
        return "done"

    options: dict[str, Any] = {"tool_choice": "required", "parallel_tool_calls": False}
    done = client.run_tools("Go", [choose], **options, temperature=1.0, seed=3)
    assert str(done) == "It rains."
    (pick,) = picked
    assert pick.mood in Mood and (pick.size is None or pick.size in Size)


def test_several_answers_each_have_their_own_parts(client: Client) -> None:
    answers = client.chat("Weather?", tools=[WEATHER], n=4, temperature=0.5, seed=1)
    assert [(each.text, each.reasoning, each.tool_calls[0].arguments) for each in answers] == [TOLD] * 4
    assert len({each.tool_calls[0].id for each in answers}) == 4


def test_those_who_did_not_ask_are_told_nothing_beside_those_who_did(host: HostProcess) -> None:
    async def all_at_once() -> list[Any]:
        async with AsyncClient(host.url, token=host.token, timeout=60) as many:
            asked: list[dict[str, Any]] = [{"tools": [WEATHER]}, {}, {"reasoning": True}, {"logprobs": 0}]
            return await asyncio.gather(*(many.chat("Weather?", **asked[i % 4]) for i in range(32)))

    for number, answer in enumerate(asyncio.run(all_at_once())):
        if number % 4 == 0:
            assert (answer.text, answer.reasoning, answer.tool_calls[0].arguments) == TOLD
        elif number % 4 == 2:
            assert answer.reasoning == TOLD[1] and answer.text.startswith("Let me see. <tool_call>")
        else:
            assert answer.text.startswith("I must look.</think>Let me see. <tool_call>{")
            assert (answer.reasoning, answer.tool_calls) == ("", ())


def test_budget_closes_the_reasoning(client: Client) -> None:
    answer = client.chat("Weather?", tools=[WEATHER], max_reasoning_tokens=2)
    assert (answer.reasoning, answer.text, answer.usage.reasoning_tokens) == ("I must ", TOLD[0], 2)


def test_answer_that_is_cut_gives_the_beginning_of_a_call(client: Client) -> None:
    answer = client.chat("Weather?", tools=[WEATHER], max_tokens=8)
    written = '<tool_call>{"name": "get_weather", "arguments": {"city": '
    call = ToolCall(index=0, id="", name="", arguments=None, text=written, malformed=True)
    assert (answer.tool_calls, answer.finish_reason) == ((call,), "length")


@pytest.mark.parametrize("choice", ["required", {"name": "get_weather"}])
def test_call_that_has_to_be_comes_behind_the_reasoning(client: Client, choice: ToolChoice) -> None:
    """And not behind the text that this model would write first; with the arguments that its schema allows."""
    city = {"enum": ["京都", "大阪"]}
    parameters = {
        "type": "object",
        "properties": {"city": city},
        "required": ["city"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": parameters, "strict": True}}
    others = [{"type": "function", "function": {"name": "now"}}] if choice != "required" else []
    options: dict[str, Any] = {"tools": [*others, tool], "tool_choice": choice, "parallel_tool_calls": False}
    for answer in client.chat("Weather?", **options, n=3, temperature=1.0, seed=5):
        (call,) = answer.tool_calls
        assert call.name == "get_weather" and call.arguments in ({"city": "京都"}, {"city": "大阪"})
        assert (answer.text, answer.reasoning, answer.finish_reason) == ("", "I must look.", "tool_calls")
    with client.chat("Weather?", **options, max_reasoning_tokens=2, stream=True) as stream:
        chunks = list(stream)
    _, reasoning, arguments = told(chunks)
    assert reasoning == "I must " and arguments.keys() == {"city"}


def test_strict_tool_is_kept_to_where_the_model_decides(client: Client) -> None:
    """All but the call comes as it would; cut, the call is malformed."""
    parameters = {
        "type": "object",
        "properties": {"city": {"enum": ["京都"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": parameters, "strict": True}}
    with client.chat("Weather?", tools=[tool], stream=True) as stream:
        chunks = list(stream)
    assert told(chunks) == (*TOLD[:2], {"city": "京都"})
    assert (stream.generation.finish_reason, stream.generation.usage.reasoning_tokens) == ("tool_calls", 3)
    cut = client.chat("Weather?", tools=[tool], max_tokens=9)
    assert (cut.text, cut.finish_reason, cut.tool_calls[0].malformed) == (TOLD[0], "length", True)


def test_stream_that_is_closed_gives_its_place_back(client: Client) -> None:
    options: dict[str, Any] = {"chat_template_kwargs": {"scene": "<scene:forever>"}, "reasoning": False}
    with client.chat("x", tools=[WEATHER], stream=True, **options) as stream:
        assert "on" in "".join(next(stream).text for _ in range(3))
    wait_until_idle(client)
    assert client.chat("Weather?", tools=[WEATHER]).reasoning == TOLD[1]


def test_slow_reader_gets_merged_parts_in_order(client: Client) -> None:
    """More rows than the window has items: what comes meanwhile is merged, and nothing is lost or moved."""
    options: dict[str, Any] = {"chat_template_kwargs": {"scene": "<scene:forever>"}, "reasoning": False}
    with client.chat("x", tools=[WEATHER], max_tokens=600, stream=True, **options) as stream:
        first = next(stream)
        wait_until_idle(client)
        chunks = [first, *stream]
    assert len(chunks) < 600 and max(len(chunk.token_ids) for chunk in chunks) > 100
    assert "".join(chunk.text for chunk in chunks) == "on on, " * 300


@pytest.mark.parametrize(
    ("options", "kind", "field"),
    [
        ({"tools": [WEATHER, WEATHER]}, InvalidArgument, "tools[1].function.name"),
        ({"tools": [{"name": "get_weather"}]}, InvalidArgument, "tools[0]"),
        ({"tools": [WEATHER], "tool_choice": "now"}, InvalidArgument, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"name": "now"}}, InvalidArgument, "tool_choice"),
        ({"tool_choice": "required"}, InvalidArgument, "tool_choice"),
        ({"tools": [UNLIKE], "tool_choice": "required"}, Unsupported, UNLIKE_FIELD),
        ({"max_reasoning_tokens": 0}, InvalidArgument, "max_reasoning_tokens"),
        ({"chat_template_kwargs": {"mood": "good"}}, Unsupported, "chat_template_kwargs.mood"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    client: Client, options: dict[str, Any], kind: type[Exception], field: str
) -> None:
    with pytest.raises(kind) as caught:
        client.chat("x", **options)
    assert caught.value.details == {"field": field}  # type: ignore[attr-defined]
