"""An answer as Anthropic's stream of events, in the order that clients rely on.

::

    message_start  ping  (content_block_start  content_block_delta …  content_block_stop) …  message_delta  message_stop

A block is thinking, text, or a call. White space alone makes none: it is kept until something follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from mlxbridge.guest.gateway.anthropic.problems import write_problem
from mlxbridge.guest.gateway.anthropic.reply import (
    SIGNATURE,
    Reply,
    text_block,
    thinking_block,
    tool_use_block,
    usage_of,
)
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.types import Chunk, Generation, ToolCall

_DELTAS = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}
"""By the kind of a block: what its deltas are, and which member of theirs is the text."""


def event(name: str, **members: Any) -> bytes:
    """One server-sent event (HTML Living Standard, §9.2)."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **members}))


class MessageEvents:
    """Writes one answer."""

    media_type = "text/event-stream"
    keep_alive = event("ping")

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._num_blocks = 0
        self._open = ""  # the kind of block that is open
        self._head = b""  # what its deltas begin with
        self._held = ("", "")  # a kind of block, and white space that may become the beginning of one
        self._has_thought = False

    def begin(self, index: int) -> bytes:
        """``message_start``."""
        return event("message_start", message=self._reply.begin()) + self.keep_alive

    def take(self, index: int, chunk: Chunk) -> bytes:
        """The deltas of a chunk."""
        data = self._think(chunk.reasoning) if chunk.reasoning else b""
        if chunk.text:
            data += self._write("text", chunk.text)
        for call in chunk.tool_calls:
            data += self._write("text", call.text) if call.malformed else self._call(call)
        return data

    def finish(self, index: int, answer: Generation) -> bytes:
        """``message_delta``, which says why it ended, and ``message_stop``."""
        reason, sequence = self._reply.stop(answer)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        return b"".join(
            (
                self._close(),
                event("message_delta", delta=delta, usage=usage_of(answer)),
                event("message_stop"),
            )
        )

    def end(self, answers: Sequence[Generation]) -> bytes:
        """Nothing more."""
        return b""

    def fail(self, problem: Problem, request_id: str) -> bytes:
        """``error``."""
        return b"event: error\ndata: %b\n\n" % orjson.dumps(write_problem(problem, request_id))

    def _think(self, text: str) -> bytes:
        self._has_thought = True
        if self._reply.shown == "nothing":
            return b""
        if self._reply.shown == "omitted":
            return b"" if self._open == "thinking" or not text.strip() else self._start("thinking")
        return self._write("thinking", text)

    def _write(self, kind: str, text: str) -> bytes:
        """A delta of the open block, or of a new one."""
        if self._open == kind:
            return b"%b%b}}\n\n" % (self._head, orjson.dumps(text))
        if self._held[0] == kind:
            text = self._held[1] + text
        if not text.strip():
            self._held = (kind, text)
            return b""
        if kind == "text" and self._has_thought:  # white space beside the markers that were around it
            text = text.lstrip()
        return b"%b%b%b}}\n\n" % (self._start(kind), self._head, orjson.dumps(text))

    def _call(self, call: ToolCall) -> bytes:
        data = self._close()
        number = self._num_blocks
        self._num_blocks += 1
        delta = {"type": "input_json_delta", "partial_json": call.text}
        return b"".join(
            (
                data,
                event("content_block_start", index=number, content_block=tool_use_block(call, {})),
                event("content_block_delta", index=number, delta=delta),
                event("content_block_stop", index=number),
            )
        )

    def _start(self, kind: str) -> bytes:
        data = self._close()
        number, (delta, member) = self._num_blocks, _DELTAS[kind]
        self._num_blocks += 1
        self._open = kind
        # Of each of many deltas only the text is encoded.
        whole = event("content_block_delta", index=number, delta={"type": delta, member: ""})
        self._head = whole.removesuffix(b'""}}\n\n')
        block = text_block("") if kind == "text" else thinking_block("", "")
        return data + event("content_block_start", index=number, content_block=block)

    def _close(self) -> bytes:
        kind, self._open, self._held = self._open, "", ("", "")
        if not kind:
            return b""
        number = self._num_blocks - 1
        stop = event("content_block_stop", index=number)
        if kind == "text":
            return stop
        signed = {"type": "signature_delta", "signature": SIGNATURE}
        return event("content_block_delta", index=number, delta=signed) + stop
