"""Answers in Anthropic's form, whole and as events: which blocks there are, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from mlxbridge.guest.gateway.anthropic.events import MessageEvents
from mlxbridge.guest.gateway.anthropic.reply import Reply
from mlxbridge.guest.gateway.anthropic.thinking import Shown
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.types import Chunk, FinishReason, Generation, ToolCall, Usage

CALL = ToolCall(index=0, id="c1", name="now", arguments={"zone": "UTC"}, text='{"zone": "UTC"}')
BROKEN = ToolCall(index=1, id="", name="", arguments=None, text="<tool_call>{", malformed=True)
CALL_BLOCK = {"type": "tool_use", "id": "c1", "name": "now", "input": {"zone": "UTC"}}
THOUGHT = {"type": "thinking", "thinking": "I must look.", "signature": "mlxbridge"}


def said(text: str) -> Chunk:
    return Chunk(text, [1])


def thought(text: str) -> Chunk:
    return Chunk("", [1], None, text)


def called(call: ToolCall) -> Chunk:
    return Chunk("", [1], None, "", (call,))


def answer_of(chunks: Sequence[Chunk], finish_reason: FinishReason = "stop", **usage: Any) -> Generation:
    """The answer that was streamed so."""
    told = Usage(finish_reason=finish_reason, prompt_tokens=9, completion_tokens=5, cached_tokens=3, **usage)
    return Generation(
        text="".join(chunk.text for chunk in chunks),
        token_ids=[1] * len(chunks),
        model="demo",
        finish_reason=finish_reason,
        prompt_tokens=9,
        completion_tokens=5,
        tokens_per_second=1.0,
        time_to_first_token=1.0,
        usage=told,
        reasoning="".join(chunk.reasoning for chunk in chunks),
        tool_calls=tuple(call for chunk in chunks for call in chunk.tool_calls),
    )


def read_events(data: bytes) -> list[dict[str, Any]]:
    events = []
    for told in data.split(b"\n\n")[:-1]:
        name, _, value = told.removeprefix(b"event: ").partition(b"\ndata: ")
        events.append(orjson.loads(value))
        assert events[-1]["type"] == name.decode() and b"\n" not in value
    return events


def events_of(chunks: Sequence[Chunk], shown: Shown = "whole", **end: Any) -> list[dict[str, Any]]:
    writer = MessageEvents(Reply("demo", shown))
    data = [writer.begin(0), *(writer.take(0, chunk) for chunk in chunks)]
    answer = answer_of(chunks, **end)
    return read_events(b"".join((*data, writer.finish(0, answer), writer.end([answer]))))


def blocks_of(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a client makes of the events between ``ping`` and ``message_delta``; they have to come in order."""
    blocks: list[dict[str, Any]] = []
    is_open = False
    for event in events[2:-2]:
        if event["type"] == "content_block_start":
            assert not is_open and event["index"] == len(blocks)
            blocks.append(event["content_block"])
        elif event["type"] == "content_block_stop":
            assert is_open and event["index"] == len(blocks) - 1
            if blocks[-1]["type"] == "tool_use":
                blocks[-1]["input"] = orjson.loads(blocks[-1].pop("json"))
        else:
            assert is_open and event["type"] == "content_block_delta" and event["index"] == len(blocks) - 1
            kind = event["delta"].pop("type")
            ((member, text),) = event["delta"].items()
            member = "json" if kind == "input_json_delta" else member
            blocks[-1][member] = blocks[-1].get(member, "") + text
        is_open = event["type"] != "content_block_stop"
    assert not is_open
    return blocks


def test_events_come_in_their_order() -> None:
    events = events_of([thought("I must "), thought("look."), said("Let me "), said("see."), called(CALL)])
    assert [event["type"] for event in events] == [
        *["message_start", "ping"],
        *["content_block_start", *["content_block_delta"] * 3, "content_block_stop"],
        *["content_block_start", *["content_block_delta"] * 2, "content_block_stop"],
        *["content_block_start", "content_block_delta", "content_block_stop"],
        *["message_delta", "message_stop"],
    ]
    message = events[0]["message"]
    assert message.pop("id").startswith("msg_")
    assert message == {
        **{"type": "message", "role": "assistant", "model": "demo", "content": []},
        **{"stop_reason": None, "stop_sequence": None},
        "usage": {
            **{"input_tokens": 0, "output_tokens": 0},
            **{"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
        },
    }
    assert events[3]["delta"] == {"type": "thinking_delta", "thinking": "I must "}
    assert events[5]["delta"] == {"type": "signature_delta", "signature": "mlxbridge"}
    assert events[8] == {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": "text_delta", "text": "Let me "},
    }


@pytest.mark.parametrize(
    ("chunks", "blocks"),
    [
        ([], []),
        ([said("")], []),
        ([said(" \n")], []),
        ([said(" \n"), said("a "), said("\nb")], [{"type": "text", "text": " \na \nb"}]),
        ([said('"é\\\n')], [{"type": "text", "text": '"é\\\n'}]),
        # White space around markers is nobody's.
        (
            [thought("\n"), thought("I must look."), said("\n\n"), said("\nHi")],
            [{**THOUGHT, "thinking": "\nI must look."}, {"type": "text", "text": "Hi"}],
        ),
        ([thought("\n"), said("\nHi")], [{"type": "text", "text": "Hi"}]),
        ([thought("I must look."), said("\n"), called(CALL), said("\n")], [THOUGHT, CALL_BLOCK]),
        ([said("Let me see."), called(CALL)], [{"type": "text", "text": "Let me see."}, CALL_BLOCK]),
        ([called(CALL), called(CALL)], [CALL_BLOCK, CALL_BLOCK]),
        # What is no call is told as it was written.
        ([said("See. "), called(BROKEN)], [{"type": "text", "text": "See. <tool_call>{"}]),
        # One chunk of a reader that was slow.
        (
            [Chunk("Let me see.", [1, 2], None, "I must look.", (CALL,))],
            [THOUGHT, {"type": "text", "text": "Let me see."}, CALL_BLOCK],
        ),
    ],
)
def test_blocks_are_the_same_whole_and_as_events(chunks: list[Chunk], blocks: list[dict[str, Any]]) -> None:
    assert blocks_of(events_of(chunks)) == blocks
    assert Reply("demo", "whole").whole(answer_of(chunks))["content"] == blocks


@pytest.mark.parametrize(("shown", "thinking"), [("omitted", [{**THOUGHT, "thinking": ""}]), ("nothing", [])])
def test_thinking_is_not_told_where_it_is_not_wanted(shown: Shown, thinking: list[dict[str, Any]]) -> None:
    chunks = [thought("\n"), thought("I must "), thought("look."), said("\nHi")]
    blocks = [*thinking, {"type": "text", "text": "Hi"}]
    assert blocks_of(events_of(chunks, shown)) == blocks
    assert Reply("demo", shown).whole(answer_of(chunks))["content"] == blocks


def test_model_that_thinks_again_opens_a_block_again() -> None:
    blocks = blocks_of(events_of([thought("a"), said("b"), thought("c"), said("d")]))
    assert [block["type"] for block in blocks] == ["thinking", "text", "thinking", "text"]


@pytest.mark.parametrize(
    ("end", "is_shortened", "told"),
    [
        ({}, False, ("end_turn", None)),
        ({"finish_reason": "length"}, False, ("max_tokens", None)),
        ({"finish_reason": "length"}, True, ("model_context_window_exceeded", None)),
        ({}, True, ("end_turn", None)),
        ({"finish_reason": "tool_calls"}, False, ("tool_use", None)),
        ({"stop_string": "##"}, False, ("stop_sequence", "##")),
    ],
)
def test_message_says_why_it_ended(end: dict[str, Any], is_shortened: bool, told: tuple[str, Any]) -> None:
    answer = answer_of([said("a")], **end)
    reply = Reply("demo", "whole", is_shortened=is_shortened)
    message = reply.whole(answer)
    assert (message["stop_reason"], message["stop_sequence"]) == told
    delta, stop = read_events(MessageEvents(reply).finish(0, answer))
    assert delta["delta"] == {"stop_reason": told[0], "stop_sequence": told[1]}
    assert stop == {"type": "message_stop"}


def test_usage_tells_what_was_found_in_the_cache() -> None:
    usage = {
        **{"input_tokens": 6, "output_tokens": 5},
        **{"cache_creation_input_tokens": 0, "cache_read_input_tokens": 3},
        "output_tokens_details": {"thinking_tokens": 2},
    }
    assert events_of([said("a")], reasoning_tokens=2)[-2]["usage"] == usage
    assert Reply("demo", "whole").whole(answer_of([said("a")], reasoning_tokens=2))["usage"] == usage


def test_what_goes_wrong_later_is_an_event() -> None:
    problem = Problem(503, "the gateway is stopping", code="unavailable")
    (event,) = read_events(MessageEvents(Reply("demo", "whole")).fail(problem, "req-1"))
    assert event == {
        "type": "error",
        "error": {"type": "api_error", "message": "the gateway is stopping"},
        "request_id": "req-1",
    }
