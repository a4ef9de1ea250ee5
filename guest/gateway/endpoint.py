"""From HTTP to a handler and back: who asks, errors in the API's own shape, and a record of each request."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from starlette.datastructures import Headers
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mlxbridge.errors import BridgeError
from mlxbridge.guest.gateway.callers import ANYONE
from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.gateway import Gateway
from mlxbridge.guest.gateway.gone import ClientGone
from mlxbridge.guest.gateway.problem import PATHS, Problem
from mlxbridge.guest.gateway.record import Record
from mlxbridge.guest.gateway.responses import EXCHANGE, ID_HEADERS, RECORD, Json

log = logging.getLogger(__name__)

Handler = Callable[[Exchange], Awaitable[ASGIApp]]

GATEWAY = "mlxbridge.gateway"
"""Where the scope of a request has its ``Gateway``."""
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_LOOKS = frozenset({"GET", "HEAD"})
"""Methods that count against nobody's limits: they ask the host for what it knows at once."""
_CLIENT_GONE = 499  # as nginx logs it; never sent


@dataclass(frozen=True)
class Api:
    """One of the APIs that are spoken.

    Attributes:
        name: of it.
        write_problem: what is told of a problem, as JSON values; takes the request's id too.
        id_headers: under which it tells the request's id.
        paths: where models are asked, by their kind.
        statuses: of HTTP that it has for problems, by their code, where it is not the problem's own.
    """

    name: str
    write_problem: Callable[[Problem, str], Any]
    id_headers: tuple[bytes, ...] = (b"x-request-id",)
    paths: Mapping[str, str] = field(default_factory=lambda: PATHS)
    statuses: Mapping[str, int] = field(default_factory=dict)


class Endpoint:
    """The ASGI app of one path.

    Args:
        api: in whose shape errors are told.
        path: as the route has it; "other" for all that have none.
        handlers: by method of HTTP; one of GET answers HEAD too.
        is_open: needs no API key.
    """

    def __init__(
        self, api: Api, path: str, handlers: Mapping[str, Handler], *, is_open: bool = False
    ) -> None:
        self._api = api
        self._path = path
        self._handlers = dict(handlers)
        if "GET" in handlers:
            self._handlers.setdefault("HEAD", handlers["GET"])
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        gateway: Gateway = scope[GATEWAY]
        headers = Headers(scope=scope)
        record = Record(
            request_id=_request_id(headers),
            api=self._api.name,
            route=self._path,
            method=scope["method"],
            path=scope["path"],
        )
        gateway.metrics.begin()
        scope[RECORD] = record
        scope[ID_HEADERS] = self._api.id_headers
        try:
            try:
                response = await self._handle(gateway, headers, record, scope, receive)
                await response(scope, receive, send)
            except (BridgeError, Problem) as error:
                await self._refuse(error, scope, receive, send)
        except ClientGone:
            record.is_cut = True
            record.status = record.status or _CLIENT_GONE
        except asyncio.CancelledError:
            record.is_cut = True
            if not gateway.stopping.is_set():
                raise
            if not record.status:  # the time to drain is over, and this is the end of this task anyway
                await self._refuse(Problem.stopping(), scope, receive, send)
        except RecursionError:
            if record.status:
                raise
            problem = Problem(400, "the body is nested too deeply", code="invalid_json")
            await self._refuse(problem, scope, receive, send)
        except Exception:
            log.exception("%s %s (%s)", record.method, record.path, record.request_id)
            record.error = "internal_error"
            if record.status:  # it has begun: closing the connection is all that can be said
                raise
            await self._refuse(Problem.internal(), scope, receive, send)
        finally:
            record.end = perf_counter()
            if (exchange := scope.get(EXCHANGE)) is not None:
                exchange.close()
            gateway.note(record)

    async def _handle(
        self, gateway: Gateway, headers: Headers, record: Record, scope: Scope, receive: Receive
    ) -> ASGIApp:
        gateway.origins.check(headers)
        caller = ANYONE if self._is_open else gateway.admit(_key(headers))
        record.caller = "" if self._is_open else caller.name
        handler = self._handlers.get(record.method)
        if handler is None:
            raise Problem(
                405,
                f"{record.path} takes {' or '.join(self._handlers)}, not {record.method}",
                code="method_not_allowed",
            )
        exchange = Exchange(gateway, caller, record, scope, receive)
        exchange.paths = self._api.paths
        scope[EXCHANGE] = exchange
        if not self._is_open and record.method not in _LOOKS:
            exchange.count()
        return await handler(exchange)

    async def _refuse(self, error: BridgeError | Problem, scope: Scope, receive: Receive, send: Send) -> None:
        record: Record = scope[RECORD]
        if isinstance(error, Problem):
            problem = error
        else:
            exchange: Exchange | None = scope.get(EXCHANGE)
            problem = Problem.of(error) if exchange is None else exchange.problem_of(error)
        record.error = problem.code
        told = dict(problem.headers)
        if problem.status == 405:
            told["allow"] = ", ".join(self._handlers)
        if problem.status == 401:
            told["www-authenticate"] = "Bearer"
        status = self._api.statuses.get(problem.code, problem.status)
        await Json(self._api.write_problem(problem, record.request_id), status, told)(scope, receive, send)


def route(api: Api, path: str, *, is_open: bool = False, **handlers: Handler) -> Route:
    """A path of an API.

    Args:
        api: that it belongs to.
        path: as starlette has it.
        is_open: needs no API key.
        handlers: by method of HTTP: ``POST=create_message``.
    """
    return Route(path, Endpoint(api, path, handlers, is_open=is_open))


def _request_id(headers: Headers) -> str:
    """The caller's own, if that can be told and logged; else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req-{secrets.token_hex(12)}"


def _key(headers: Headers) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get("x-api-key") or None
