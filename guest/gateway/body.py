"""The body of a request: how large it may be, how long it may take to come, and how much memory all of them may have."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.types import Receive

from mlxbridge.guest.gateway.gone import ClientGone
from mlxbridge.guest.gateway.problem import Problem

BODY_TIMEOUT_S = 120.0
"""For the whole of one; who sends a byte now and then keeps what it has here no longer."""
_MOST_LEVELS = 128
"""Of lists and objects within each other in a field; what goes deeper, orjson would read and not write."""


class BodyRoom:
    """What is left of the memory for bodies, which all requests under way share.

    Args:
        most_bytes: that they may have together.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._num_bytes = 0

    def check(self, num_bytes: int) -> None:
        """Refuse a body for which there is no room now.

        Raises:
            Problem: 503.
        """
        if self._num_bytes + num_bytes > self._most_bytes:
            raise Problem(503, "the gateway has too many large requests now", code="overloaded")

    def take(self, num_bytes: int) -> None:
        """Some of a body has come.

        Raises:
            Problem: as ``check``, and nothing was taken.
        """
        self.check(num_bytes)
        self._num_bytes += num_bytes

    def give(self, num_bytes: int) -> None:
        """A body, and what was read of it, is there no more."""
        self._num_bytes -= num_bytes


class Body:
    """Of one request. It has its room until it is closed: what was read of it is there for as long.

    Args:
        headers: of the request.
        receive: where the body comes from.
        most_bytes: that it may have.
        room: that it takes its part of.
    """

    def __init__(self, headers: Headers, receive: Receive, most_bytes: int, room: BodyRoom) -> None:
        self._headers = headers
        self._receive = receive
        self._most_bytes = most_bytes
        self._room = room
        self._num_bytes = 0
        self._is_read = False

    def close(self) -> None:
        """The request has ended."""
        self._room.give(self._num_bytes)
        self._num_bytes = 0

    async def read(self) -> bytes:
        """The whole of it.

        Raises:
            Problem: 408, 413, 415, 503.
            ClientGone: it never came.
        """
        encoding = self._headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise Problem(
                415,
                f"content-encoding: {encoding!r} is not read here; send the body as it is",
                code="unsupported",
            )
        self._check_size(length := int(self._headers.get("content-length") or 0))
        self._room.check(length)
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                return await self._take()
        except TimeoutError:
            raise Problem(
                408, f"the body was not there within {BODY_TIMEOUT_S:g} s", code="timeout"
            ) from None

    async def read_json(self) -> dict[str, Any]:
        """The JSON object that it is.

        Raises:
            Problem: 400, or as ``read``.
            ClientGone: it never came.
        """
        text = await self.read()
        try:
            value = orjson.loads(text or b"{}")
        except orjson.JSONDecodeError as error:
            raise Problem(400, f"the body is no JSON: {error}", code="invalid_json") from error
        if not isinstance(value, dict):
            raise Problem(400, "the body must be a JSON object", code="invalid_json")
        if text.count(b"[") + text.count(b"{") > _MOST_LEVELS:
            for name, member in value.items():
                if _is_deep(member):
                    why = f"is nested too deeply: {_MOST_LEVELS} levels are read here"
                    raise Problem(400, f"{name}: {why}", field=name)
        return value

    async def _take(self) -> bytes:
        parts: list[bytes] = []
        while not self._is_read:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            self._check_size(self._num_bytes + len(part))
            self._room.take(len(part))
            self._num_bytes += len(part)
            parts.append(part)
            self._is_read = not message.get("more_body", False)
        return b"".join(parts)

    def _check_size(self, num_bytes: int) -> None:
        if num_bytes > self._most_bytes:
            raise Problem(413, f"the body is larger than {self._most_bytes} bytes", code="too_large")


def _is_deep(value: Any) -> bool:
    """Whether there are more than so many levels of lists and objects within each other."""
    level = [value]
    for _ in range(_MOST_LEVELS + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True
