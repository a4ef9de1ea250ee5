"""Reasoning and tool calls as a guest sees them: with the rows they came in, whole at the end, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlxbridge import AsyncClient, Chunk, Client, Generation, ToolCall, UsageError
from mlxbridge.protocol import HostConnection
from mlxbridge.protocol.events import CallOpened, Event
from mlxbridge.protocol.parts import Part
from tests.guest.script_host import ScriptHost, script_host

TOOL = {"type": "function", "function": {"name": "now"}}
CALL = ToolCall(index=0, id="a1", name="now", arguments={"zone": "CET"}, text='{"zone": "CET"}')
BROKEN = ToolCall(index=1, id="", name="", arguments=None, text="<tool_call>{", malformed=True)
ROWS: list[tuple[list[int], str, list[Part] | None]] = [
    ([1], "", [[1, "Let "]]),
    ([2, 3], "", [[1, "me "], [1, "see"]]),
    ([4], "Well. ", None),
    ([5], "", [[2, 0, "a1", "now", '{"zone": "CET"}'], [99, "of a later version"]]),
    ([6], "Done", [[1, "."]]),
    ([], "", [[3, 1, "<tool_call>{"]]),
]
CHUNKS = [
    Chunk("", [1], None, "Let "),
    Chunk("", [2, 3], None, "me see"),
    Chunk("Well. ", [4]),
    Chunk("", [5], None, "", (CALL,)),
    Chunk("Done", [6], None, "."),
    Chunk("", [], None, "", (BROKEN,)),
]
asked: list[object] = []


def answer(connection: HostConnection, event: Event) -> None:
    if not isinstance(event, CallOpened) or event.method != "generate":
        return
    asked.append(event.params)
    for ids, text, parts in ROWS:
        logprobs = [[b"\x07\x00\x00\x00\x00\x00\x00\xbf\x00\x00"] * len(ids)]
        connection.send_tokens(
            [event.call], [ids], [text], logprobs if "logprobs" in event.params else None, [parts]
        )
    connection.finish(event.call, {"finish_reason": "tool_calls", "reasoning_tokens": 4})


@pytest.fixture
def host(path: str) -> Iterator[ScriptHost]:
    asked.clear()
    with script_host(path, answer) as running:
        yield running


def check(given: Generation) -> None:
    assert (given.text, given.reasoning, given.tool_calls) == ("Well. Done", "Let me see.", (CALL, BROKEN))
    assert (given.finish_reason, given.usage.reasoning_tokens) == ("tool_calls", 4)
    assert given.token_ids == [1, 2, 3, 4, 5, 6]


def test_chunks_have_what_their_rows_had(host: ScriptHost) -> None:
    with Client(host.url, timeout=20) as client:
        with client.chat("x", tools=[TOOL], stream=True) as stream:
            assert list(stream) == CHUNKS
        check(stream.generation)
        check(client.chat("x", tools=[TOOL]))
        check(client.generate(messages=[{"role": "user", "content": "x"}], reasoning=True))
        for given in client.chat("x", max_reasoning_tokens=9, n=3):
            check(given)


async def test_chunks_have_what_their_rows_had_for_async_clients(host: ScriptHost) -> None:
    async with AsyncClient(host.url, timeout=20) as client:
        stream = await client.chat("x", tools=[TOOL], stream=True)
        assert [chunk async for chunk in stream] == CHUNKS
        check(stream.generation)
        for given in await client.chat("x", reasoning=False, n=3):
            check(given)


def test_logprobs_come_beside(host: ScriptHost) -> None:
    with Client(host.url, timeout=20) as client:
        given = client.chat("x", tools=[TOOL], logprobs=0)
        check(given)
        assert given.logprobs is not None and len(given.logprobs) == 6


def test_calls_side_by_side_keep_their_parts_apart(host: ScriptHost) -> None:
    with Client(host.url, timeout=20) as client:
        streams = [client.chat("x", tools=[TOOL], stream=True), client.chat("x", stream=True)]
        told, plain = ([*stream] for stream in streams)
        assert told == CHUNKS
        assert [(chunk.text, chunk.reasoning, chunk.tool_calls) for chunk in plain] == [
            (text, "", ()) for _, text, _ in ROWS
        ]


def test_params_cross_as_they_are(host: ScriptHost) -> None:
    with Client(host.url, timeout=20) as client:
        client.chat(
            "x",
            tools=(TOOL,),
            tool_choice={"name": "now"},
            parallel_tool_calls=False,
            reasoning=True,
            max_reasoning_tokens=7,
            chat_template_kwargs={"a": [1, {"b": None}]},
        )
    assert asked == [
        {
            "messages": [{"role": "user", "content": "x"}],
            "tools": [TOOL],
            "tool_choice": {"name": "now"},
            "parallel_tool_calls": False,
            "reasoning": True,
            "max_reasoning_tokens": 7,
            "chat_template_kwargs": {"a": [1, {"b": None}]},
        }
    ]


@pytest.mark.parametrize("tools", ["now", TOOL, 7, ["now"], [7]])
def test_tools_that_are_none_are_refused(host: ScriptHost, tools: object) -> None:
    with Client(host.url, timeout=20) as client, pytest.raises(UsageError) as caught:
        client.chat("x", tools=tools)  # type: ignore[call-overload]
    assert caught.value.details == {"field": "tools"}
    assert not asked


def test_answer_is_a_turn_of_the_chat(host: ScriptHost) -> None:
    with Client(host.url, timeout=20) as client:
        assert client.chat("x", tools=[TOOL]).message == {
            "role": "assistant",
            "content": "Well. Done",
            "tool_calls": [
                {"id": "a1", "type": "function", "function": {"name": "now", "arguments": '{"zone": "CET"}'}}
            ],
        }
        assert client.chat("x").message == {"role": "assistant", "content": "Well. Done"}
