"""Lines and whole answers, byte by byte."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from mlxbridge.guest.gateway.ollama.answers import MESSAGE, RESPONSE, Clock, Ending, Form, Lines, whole
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.types import Chunk, FinishReason, Generation, TokenLogprob, TokenLogprobs, ToolCall, Usage

CALL = ToolCall(index=0, id="call_1", name="add", arguments={"a": 1}, text='{"a": 1}')
BROKEN = ToolCall(index=1, id="", name="", arguments=None, text="<tool_call>{", malformed=True)


def answer(reason: FinishReason = "stop", text: str = "Hi", **usage: Any) -> Generation:
    return Generation(
        text=text,
        token_ids=[7, 8],
        model="demo",
        finish_reason=reason,
        prompt_tokens=3,
        completion_tokens=2,
        tokens_per_second=1.0,
        time_to_first_token=0.1,
        usage=Usage(
            finish_reason=reason,
            prompt_tokens=3,
            completion_tokens=2,
            prefill_seconds=0.25,
            decode_seconds=0.5,
            **usage,
        ),
    )


def read(data: bytes) -> dict[str, Any]:
    assert data.endswith(b"\n") and data.count(b"\n") == 1
    value: dict[str, Any] = orjson.loads(data)
    assert value.pop("created_at").endswith("Z")
    return value


@pytest.mark.parametrize("form", [RESPONSE, MESSAGE])
@pytest.mark.parametrize("text", ["Hi", 'a "quoted"\nline', "東京 🙂", "\u2028"])
def test_short_way_writes_what_the_long_way_does(form: Form, text: str) -> None:
    lines = Lines(form, 'a "model"', Ending(Clock()))
    assert read(lines.take(0, Chunk(text, [1]))) == {
        "model": 'a "model"',
        **form.said(Chunk(text, [1])),
        "done": False,
    }


def test_chunk_without_anything_to_tell_is_no_line() -> None:
    lines = Lines(MESSAGE, "demo", Ending(Clock()))
    assert lines.begin(0) == lines.take(0, Chunk("", [1])) == lines.end([]) == lines.keep_alive == b""


def test_reasoning_and_calls_are_told_apart() -> None:
    lines = Lines(MESSAGE, "demo", Ending(Clock()))
    told = read(lines.take(0, Chunk("So: ", [1], None, "I think", (CALL, BROKEN))))
    assert told["message"] == {
        "role": "assistant",
        "content": "So: <tool_call>{",
        "thinking": "I think",
        "tool_calls": [{"id": "call_1", "function": {"index": 0, "name": "add", "arguments": {"a": 1}}}],
    }
    assert read(Lines(RESPONSE, "demo", Ending(Clock())).take(0, Chunk("", [1], None, "I think")))[
        "thinking"
    ] == ("I think")


def test_logprobs_have_bytes() -> None:
    half = TokenLogprob(5, -0.5, b"\xe6")
    told = read(
        Lines(RESPONSE, "demo", Ending(Clock())).take(0, Chunk("", [5], [TokenLogprobs(half, (half,))]))
    )
    entry = {"token": "\ufffd", "logprob": -0.5, "bytes": [0xE6]}
    assert told["logprobs"] == [{**entry, "top_logprobs": [entry]}]


def test_last_line_has_durations_in_nanoseconds() -> None:
    clock = Clock()
    clock.note_loaded()
    told = read(Lines(RESPONSE, "demo", Ending(clock, [1, 2], eos=0)).finish(0, answer()))
    assert 0 < told.pop("load_duration") < told.pop("total_duration") < 60_000_000_000
    assert told == {
        "model": "demo",
        "response": "",
        "done": True,
        "done_reason": "stop",
        "context": [1, 2, 7, 8, 0],
        "prompt_eval_count": 3,
        "prompt_eval_duration": 250_000_000,
        "eval_count": 2,
        "eval_duration": 500_000_000,
    }


@pytest.mark.parametrize(
    ("said", "reason", "context"),
    [
        (answer(), "stop", [1, 7, 8, 0]),
        (answer("length"), "length", [1, 7, 8]),
        (answer(stop_string="x"), "stop", [1, 7, 8]),
        (answer(stop_token_id=9), "stop", [1, 7, 8]),
        (answer("tool_calls"), "stop", [1, 7, 8]),
    ],
)
def test_context_is_what_the_model_reads_again(said: Generation, reason: str, context: list[int]) -> None:
    told = whole(RESPONSE, "demo", said, Ending(Clock(), [1], eos=0))
    assert (told["response"], told["done_reason"], told["context"]) == ("Hi", reason, context)


def test_failure_behind_the_first_line_is_a_line() -> None:
    problem = Problem(503, "the worker died", code="unavailable")
    assert Lines(MESSAGE, "demo", Ending(Clock())).fail(problem, "req-1") == b'{"error":"the worker died"}\n'
