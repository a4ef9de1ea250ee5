"""``/v1/chat/completions``: a chat, and the answers to it, whole or as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
from starlette.types import ASGIApp

from mlxbridge.compat.openai.call_deltas import CallDeltas
from mlxbridge.compat.openai.chat_completion import chat_completion, logprobs_of, usage_of
from mlxbridge.compat.openai.parameters import Plan, chat_plan
from mlxbridge.guest.gateway.exchange import Ask, Exchange
from mlxbridge.guest.gateway.openai import fields
from mlxbridge.guest.gateway.openai.chunks import ChunkWriter
from mlxbridge.guest.gateway.openai.reasoning import fit_reasoning
from mlxbridge.guest.gateway.responses import Json
from mlxbridge.types import Chunk, Generation


async def create_chat_completion(exchange: Exchange) -> ASGIApp:
    """``POST /v1/chat/completions``."""
    plan = chat_plan(fields.split(await exchange.read_json(), fields.CHAT, fields.HOST))
    exchange.names = plan.names
    plan = replace(plan, options=await fit_reasoning(exchange, plan.options))
    if plan.is_stream:
        return exchange.stream([Ask(*call) for call in plan.calls()], ChatWriter(plan), plan.num_choices)
    return Json(chat_completion(await exchange.generate(Ask(None, plan.options), plan.num_choices)))


class ChatWriter(ChunkWriter):
    """The answers to a chat as ``chat.completion.chunk``."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, kind="chatcmpl", name="chat.completion.chunk", part="delta")
        self._wants_usage = plan.wants_usage
        self._calls = CallDeltas()
        self._text_heads = [head + b'{"content":' for head in self._heads]
        self._text_tail = b"}" + self._text_tail

    def begin(self, index: int) -> bytes:
        """Who speaks."""
        return self._chunk(index, {"role": "assistant", "content": "", "refusal": None})

    def take(self, index: int, chunk: Chunk) -> bytes:
        """What came: text, reasoning, or calls of tools, each in two pieces."""
        text, _, logprobs, reasoning, tool_calls = chunk
        if not tool_calls and not reasoning and logprobs is None:
            return self._text_heads[index] + orjson.dumps(text) + self._text_tail if text else b""
        text += "".join(call.text for call in tool_calls if call.malformed)
        delta: dict[str, Any] = {"content": text} if text or logprobs else {}
        if reasoning:
            delta["reasoning_content"] = reasoning
        chunks = [self._chunk(index, delta, logprobs=logprobs_of(logprobs))] if delta else []
        chunks += [self._chunk(index, {"tool_calls": [told]}) for told in self._calls.tell(index, tool_calls)]
        return b"".join(chunks)

    def finish(self, index: int, answer: Generation) -> bytes:
        """Why it ended."""
        return self._chunk(index, {}, reason=answer.finish_reason)

    def end(self, answers: Sequence[Generation]) -> bytes:
        """What it took, if that is wanted."""
        return self._end(usage_of(answers) if self._wants_usage else None)
