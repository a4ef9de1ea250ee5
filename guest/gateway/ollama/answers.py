"""Answers as Ollama tells them, whole or line by line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import orjson

from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.types import Chunk, Generation, TokenLogprob, TokenLogprobs, ToolCall

NDJSON = "application/x-ndjson"
_DONE_REASONS = {"tool_calls": "stop"}  # Ollama has no word of its own for that


def now() -> str:
    """The time, as RFC 3339 has it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def line(value: Any) -> bytes:
    """A line of a stream."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


@dataclass(frozen=True)
class Form:
    """How one path tells what was said.

    Attributes:
        said: fields for what a chunk, or a whole answer, has.
        around_text: what stands before and behind the text in a line that has nothing else, its JSON.
    """

    said: Callable[[Chunk | Generation], dict[str, Any]]
    around_text: tuple[bytes, bytes]


def _say_response(said: Chunk | Generation) -> dict[str, Any]:
    fields: dict[str, Any] = {"response": _text(said)}
    if said.reasoning:
        fields["thinking"] = said.reasoning
    return _with_logprobs(fields, said.logprobs)


def _say_message(said: Chunk | Generation) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": _text(said)}
    if said.reasoning:
        message["thinking"] = said.reasoning
    if calls := [_call(call) for call in said.tool_calls if not call.malformed]:
        message["tool_calls"] = calls
    return _with_logprobs({"message": message}, said.logprobs)


RESPONSE = Form(_say_response, (b',"response":', b',"done":false}\n'))
"""Of ``/api/generate``."""
MESSAGE = Form(_say_message, (b',"message":{"role":"assistant","content":', b'},"done":false}\n'))
"""Of ``/api/chat``."""


class Clock:
    """What a request takes, from here on."""

    def __init__(self) -> None:
        self._start = perf_counter()
        self._load_s = 0.0

    def note_loaded(self) -> None:
        """The model is there."""
        self._load_s = perf_counter() - self._start

    @property
    def durations(self) -> dict[str, int]:
        """Of all, and until the model was there; nanoseconds."""
        return {
            "total_duration": nanoseconds(perf_counter() - self._start),
            "load_duration": nanoseconds(self._load_s),
        }


def nanoseconds(seconds: float) -> int:
    """Whole ones."""
    return round(seconds * 1e9)


class Ending:
    """What the last line of an answer has besides.

    Args:
        clock: of the request.
        context: tokens of the prompt, which those of the answer are added to; None if they are not told.
        eos: the token that ends a turn, if there is one.
    """

    def __init__(self, clock: Clock, context: Sequence[int] | None = None, eos: int | None = None) -> None:
        self._clock = clock
        self._context = context
        self._eos = eos

    def fields(self, answer: Generation) -> dict[str, Any]:
        """The fields, for an answer that has just ended."""
        usage = answer.usage
        fields: dict[str, Any] = {
            "done": True,
            "done_reason": _DONE_REASONS.get(answer.finish_reason, answer.finish_reason),
        }
        if self._context is not None:
            fields["context"] = [*self._context, *answer.token_ids, *self._closing(answer)]
        return {
            **fields,
            **self._clock.durations,
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": nanoseconds(usage.prefill_seconds),
            "eval_count": usage.completion_tokens,
            "eval_duration": nanoseconds(usage.decode_seconds),
        }

    def _closing(self, answer: Generation) -> Sequence[int]:
        """EOS, which is none of an answer's tokens, but a part of what the model is to read again."""
        usage = answer.usage
        is_eos = usage.finish_reason == "stop" and usage.stop_string is None and usage.stop_token_id is None
        return (self._eos,) if is_eos and self._eos is not None else ()


def whole(form: Form, model: str, answer: Generation, ending: Ending) -> dict[str, Any]:
    """An answer that is told at once."""
    return {"model": model, "created_at": now(), **form.said(answer), **ending.fields(answer)}


class Lines:
    """Writes an answer as it comes, see ``streaming.Writer``."""

    media_type = NDJSON
    keep_alive = b""  # clients take each line for JSON

    def __init__(self, form: Form, model: str, ending: Ending) -> None:
        self._form = form
        self._model = model
        self._ending = ending
        self._before = b'{"model":' + orjson.dumps(model) + b',"created_at":"'
        self._between, self._behind = b'"' + form.around_text[0], form.around_text[1]

    def begin(self, index: int) -> bytes:
        """Nothing."""
        return b""

    def take(self, index: int, chunk: Chunk) -> bytes:
        """A line, if there is anything to tell."""
        if chunk.reasoning or chunk.tool_calls or chunk.logprobs:
            return line({"model": self._model, "created_at": now(), **self._form.said(chunk), "done": False})
        if not chunk.text:
            return b""
        return b"".join((self._before, now().encode(), self._between, orjson.dumps(chunk.text), self._behind))

    def finish(self, index: int, answer: Generation) -> bytes:
        """The last line."""
        nothing = self._form.said(Chunk("", []))
        return line({"model": self._model, "created_at": now(), **nothing, **self._ending.fields(answer)})

    def end(self, answers: Sequence[Generation]) -> bytes:
        """Nothing."""
        return b""

    def fail(self, problem: Problem, request_id: str) -> bytes:
        """A line."""
        return line(write_problem(problem, request_id))


def write_problem(problem: Problem, request_id: str) -> dict[str, str]:
    """What goes wrong, as Ollama tells it."""
    return {"error": problem.message}


def empty(form: Form, model: str, reason: str) -> dict[str, Any]:
    """What is told where nothing was asked: the model was loaded, or unloaded.

    Args:
        form: of the path.
        model: its name, as it was given.
        reason: ``"load"`` or ``"unload"``.
    """
    return {
        "model": model,
        "created_at": now(),
        **form.said(Chunk("", [])),
        "done": True,
        "done_reason": reason,
    }


def _text(said: Chunk | Generation) -> str:
    """What a client shows: a call that cannot be read is text, as the model wrote it."""
    return said.text + "".join(call.text for call in said.tool_calls if call.malformed)


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"index": call.index, "name": call.name, "arguments": call.arguments}
    return {"id": call.id, "function": function}


def _with_logprobs(fields: dict[str, Any], tokens: Sequence[TokenLogprobs] | None) -> dict[str, Any]:
    if tokens is None:
        return fields
    told: list[Mapping[str, Any]] = []
    for token in tokens:
        others = {"top_logprobs": [_token(other) for other in token.top]} if token.top else {}
        told.append({**_token(token.chosen), **others})
    return {**fields, "logprobs": told}


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {
        "token": token.data.decode(errors="replace"),
        "logprob": token.logprob,
        "bytes": list(token.data),
    }
