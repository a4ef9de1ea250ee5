"""``/v1/completions``: prompts without a chat, and the answers to them, whole or as they come."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from starlette.types import ASGIApp

from mlxbridge.compat.openai.parameters import Plan, completion_plan
from mlxbridge.compat.openai.text_completion import completion, logprobs_of, text_of, usage_of
from mlxbridge.guest.gateway.exchange import Ask, Exchange
from mlxbridge.guest.gateway.openai import fields
from mlxbridge.guest.gateway.openai.chunks import ChunkWriter
from mlxbridge.guest.gateway.responses import Json
from mlxbridge.types import Chunk, Generation


async def create_completion(exchange: Exchange) -> ASGIApp:
    """``POST /v1/completions``."""
    plan = completion_plan(fields.split(await exchange.read_json(), fields.COMPLETION, fields.HOST))
    exchange.names = plan.names
    asks = [Ask(*call) for call in plan.calls()]
    if plan.is_stream:
        return exchange.stream(asks, CompletionWriter(plan), plan.num_choices)
    answers = await exchange.generate_all(asks, plan.num_choices)
    return Json(completion(answers, plan.num_choices, plan.echoes))


class CompletionWriter(ChunkWriter):
    """The answers to prompts as pieces of ``text_completion``."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, kind="cmpl", name="text_completion", part="text")
        self._plan = plan
        self._offsets = [0] * len(self._heads)
        """Characters of each answer that have come with logprobs."""

    def begin(self, index: int) -> bytes:
        """The prompt, if it is to be repeated."""
        plan = self._plan
        return self._chunk(index, plan.echoes[index // plan.num_choices]) if plan.echoes else b""

    def take(self, index: int, chunk: Chunk) -> bytes:
        """Text that came."""
        text, _, logprobs, _, _ = chunk
        if not logprobs:
            return self._heads[index] + orjson.dumps(text) + self._text_tail if text else b""
        offset = self._offsets[index]
        self._offsets[index] += sum(len(text_of(one)) for one in logprobs)
        return self._chunk(index, text, logprobs=logprobs_of(logprobs, offset))

    def finish(self, index: int, answer: Generation) -> bytes:
        """Why it ended."""
        return self._chunk(index, "", reason=answer.finish_reason)

    def end(self, answers: Sequence[Generation]) -> bytes:
        """What it took, if that is wanted."""
        plan = self._plan
        return self._end(usage_of(answers, plan.num_choices) if plan.wants_usage else None)
