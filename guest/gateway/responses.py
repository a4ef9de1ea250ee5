"""Responses that are no answers of ``generate``: whole ones, and lines that come one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import orjson
from starlette.types import Receive, Scope, Send

from mlxbridge.errors import BridgeError
from mlxbridge.guest.gateway.gone import until_gone
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.guest.gateway.record import Record

if TYPE_CHECKING:
    from mlxbridge.guest.gateway.exchange import Exchange

RECORD = "mlxbridge.record"
"""Where the scope of a request has its ``Record``."""
EXCHANGE = "mlxbridge.exchange"
"""Where its ``Exchange``, once it was let in."""
ID_HEADERS = "mlxbridge.id_headers"
"""Where it has the names of headers that tell the request's id."""


async def begin(scope: Scope, send: Send, status: int, headers: Mapping[str, str]) -> None:
    """Send the head of a response, with the request's id."""
    record: Record = scope[RECORD]
    given = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    own = [(name, record.request_id.encode()) for name in scope[ID_HEADERS]]
    await send({"type": "http.response.start", "status": status, "headers": given + own})
    record.status = status  # not before: while a connection has no room for it, there is no response


class Whole:
    """A response that is there at once; HEAD is sent its head alone."""

    def __init__(
        self, body: bytes, media_type: str, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        self._body = body
        self._status = status
        self._headers = {"content-type": media_type, "content-length": str(len(body)), **(headers or {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await begin(scope, send, self._status, self._headers)
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self._body})


class Json(Whole):
    """A whole response of JSON."""

    def __init__(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(orjson.dumps(value), "application/json", status, headers)


class Streamed:
    """A response whose parts come one by one; what makes them is closed when the caller goes.

    Args:
        parts: what is written; an error before the first one has a status of its own.
        media_type: of all.
        fail: writes an error after the first part.
    """

    def __init__(
        self, parts: AsyncGenerator[bytes], media_type: str, fail: Callable[[Problem], bytes]
    ) -> None:
        self._parts = parts
        self._media_type = media_type
        self._fail = fail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all.

        Raises:
            Problem, BridgeError: there was no first part.
        """
        record: Record = scope[RECORD]
        exchange: Exchange = scope[EXCHANGE]

        async def write(data: bytes, *, more: bool = True) -> None:
            if not record.status:
                await begin_stream(scope, send, self._media_type)
            await send({"type": "http.response.body", "body": data, "more_body": more})

        async def fail(problem: Problem) -> None:
            if record.status:
                record.error = problem.code
                await write(self._fail(problem), more=False)

        async with aclosing(self._parts) as parts:
            try:
                async with until_gone(receive):
                    if scope["method"] != "HEAD":
                        async for part in parts:
                            await write(part)
                    await write(b"", more=False)
            except asyncio.CancelledError:
                await fail(Problem.stopping())
                raise
            except (BridgeError, Problem) as error:
                if not record.status:
                    raise
                await fail(exchange.problem_of(error))


async def begin_stream(scope: Scope, send: Send, media_type: str) -> None:
    """Send the head of a response that comes in parts, which nobody on the way is to hold back."""
    headers = {"content-type": media_type, "cache-control": "no-cache", "x-accel-buffering": "no"}
    await begin(scope, send, 200, headers)
