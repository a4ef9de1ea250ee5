"""``/v1/completions``: prompts without a chat, and the answers to them, whole or as they come."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from starlette.types import ASGIApp

from mlxbridge.compat.openai.parameters import Plan, completion_plan
from mlxbridge.compat.openai.text_completion import completion, logprobs_of, text_of, usage_of
from mlxbridge.guest.gateway.exchange import Ask, Exchange
from mlxbridge.guest.gateway.openai import fields
from mlxbridge.guest.gateway.openai.chunks import NULL, ChunkWriter, Frame, encoded
from mlxbridge.guest.gateway.responses import Json
from mlxbridge.types import Chunk, Generation


async def create_completion(exchange: Exchange) -> ASGIApp:
    """``POST /v1/completions``."""
    plan = completion_plan(fields.split(await exchange.read_json(), fields.COMPLETION, fields.HOST))
    exchange.names = plan.names
    asks = [Ask(*call) for call in plan.calls()]
    if plan.is_stream:
        return exchange.stream(asks, CompletionWriter(plan))
    return Json(completion(await exchange.generate_all(asks), plan.num_choices, plan.echoes))


class CompletionWriter(ChunkWriter):
    """The answers to prompts as pieces of ``text_completion``."""

    def __init__(self, plan: Plan) -> None:
        frame = Frame("cmpl", "text_completion", plan.model, has_usage=plan.wants_usage)
        super().__init__(frame)
        numbers = range(len(plan.prompts) * plan.num_choices)
        self._text = [frame.around(i, b'"text":', b',"logprobs":null,"finish_reason":null') for i in numbers]
        self._whole = [frame.around(i, b'"text":', b"") for i in numbers]
        self._offsets = [0 for _ in numbers]
        self._plan = plan

    def begin(self, index: int) -> bytes:
        """The prompt, if it is to be repeated."""
        plan = self._plan
        return self._chunk(index, plan.echoes[index // plan.num_choices]) if plan.echoes else b""

    def take(self, index: int, chunk: Chunk) -> bytes:
        """Text that came."""
        if not chunk.logprobs:
            before, after = self._text[index]
            return before + orjson.dumps(chunk.text) + after if chunk.text else b""
        offset = self._offsets[index]
        self._offsets[index] += sum(len(text_of(one)) for one in chunk.logprobs)
        return self._chunk(index, chunk.text, logprobs=encoded(logprobs_of(chunk.logprobs, offset)))

    def finish(self, index: int, answer: Generation) -> bytes:
        """Why it ended."""
        return self._chunk(index, "", reason=orjson.dumps(answer.finish_reason))

    def end(self, answers: Sequence[Generation]) -> bytes:
        """What it took, if that is wanted."""
        return self._end(usage_of(answers, self._plan.num_choices) if self._frame.has_usage else None)

    def _chunk(self, index: int, text: str, logprobs: bytes = NULL, reason: bytes = NULL) -> bytes:
        before, after = self._whole[index]
        rest = b',"logprobs":' + logprobs + b',"finish_reason":' + reason
        return before + orjson.dumps(text) + rest + after
