"""The chunks of ``chat.completion.chunk`` and ``text_completion``: what is the same in all of them is encoded once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from mlxbridge.compat.openai.chat_completion import new_id
from mlxbridge.compat.openai.parameters import Plan
from mlxbridge.guest.gateway.openai import sse
from mlxbridge.guest.gateway.openai.errors import write_problem
from mlxbridge.guest.gateway.problem import Problem


class ChunkWriter:
    """What the writers of both kinds have in common.

    A chunk is its choice's head, what has come as JSON, and the tail. The model in it is called as it was asked for, since
    the first chunk comes before the host tells its own name.

    Args:
        plan: what is answered.
        kind: of id, such as "chatcmpl".
        name: OpenAI's for the kind of object.
        part: the field of a choice that has what came.
    """

    media_type = sse.MEDIA_TYPE
    keep_alive = sse.KEEP_ALIVE

    def __init__(self, plan: Plan, *, kind: str, name: str, part: str) -> None:
        told = {"id": new_id(kind), "object": name, "created": int(time.time()), "model": plan.model}
        self._head = b"data: " + orjson.dumps(told)[:-1] + b',"choices":['
        numbers = range(len(plan.prompts) * plan.num_choices)
        self._heads = [self._head + f'{{"index":{number},"{part}":'.encode() for number in numbers]
        self._tail = b"}]" + b',"usage":null' * plan.wants_usage + b"}" + sse.END
        self._text_tail = b',"logprobs":null,"finish_reason":null' + self._tail
        """For chunks that have nothing but text, which are nearly all."""

    def fail(self, problem: Problem, request_id: str) -> bytes:
        """What went wrong after the first byte."""
        return sse.event(write_problem(problem, request_id))

    def _chunk(self, index: int, part: Any, *, logprobs: Any = None, reason: str | None = None) -> bytes:
        end = orjson.dumps({"logprobs": logprobs, "finish_reason": reason})[1:-1]
        return self._heads[index] + orjson.dumps(part) + b"," + end + self._tail

    def _end(self, usage: Mapping[str, Any] | None) -> bytes:
        """The last words: usage, if it is wanted, in a chunk without choices."""
        if usage is None:
            return sse.DONE
        return self._head + b'],"usage":' + orjson.dumps(usage) + b"}" + sse.END + sse.DONE
