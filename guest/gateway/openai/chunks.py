"""The chunks of ``chat.completion.chunk`` and ``text_completion``: what is the same in all of them is encoded once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from mlxbridge.compat.openai.chat_completion import new_id
from mlxbridge.guest.gateway.openai import sse
from mlxbridge.guest.gateway.openai.errors import write_problem
from mlxbridge.guest.gateway.problem import Problem

NULL = b"null"


class Frame:
    """The constant parts of one stream's chunks.

    Args:
        kind: of ids, such as "chatcmpl".
        object_: OpenAI's name for the kind of object.
        model: as it was asked for; the stream begins before the host tells its own name.
        has_usage: whether the last chunk has the usage, which the others then have as null.
    """

    def __init__(self, kind: str, object_: str, model: str, *, has_usage: bool) -> None:
        told = {"id": new_id(kind), "object": object_, "created": int(time.time()), "model": model}
        self._head = b"data: " + orjson.dumps(told)[:-1] + b',"choices":['
        self.has_usage = has_usage
        self._tail = b"]" + b',"usage":null' * has_usage + b"}" + sse.END

    def around(self, index: int, before: bytes, after: bytes) -> tuple[bytes, bytes]:
        """What stands before and behind that which changes in a choice's chunks.

        Args:
            index: of the choice.
            before: of its fields, what comes before.
            after: what comes behind, without the brace that ends it.
        """
        return self._head + b'{"index":%d,' % index + before, after + b"}" + self._tail

    def usage(self, usage: Mapping[str, Any]) -> bytes:
        """The last chunk, which has no choices."""
        return self._head + b'],"usage":' + orjson.dumps(usage) + b"}" + sse.END


class ChunkWriter:
    """What the writers of both kinds of chunks have in common."""

    media_type = sse.MEDIA_TYPE
    keep_alive = sse.KEEP_ALIVE

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def fail(self, problem: Problem, request_id: str) -> bytes:
        """What went wrong after the first byte."""
        return sse.event(write_problem(problem, request_id))

    def _end(self, usage: Mapping[str, Any] | None) -> bytes:
        return (b"" if usage is None else self._frame.usage(usage)) + sse.DONE


def encoded(value: Mapping[str, Any] | Sequence[Any] | str | None) -> bytes:
    """JSON of what changes."""
    return NULL if value is None else orjson.dumps(value)
