"""The ASGI app: all paths of all APIs on one gateway."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from mlxbridge.guest.gateway import health, openapi
from mlxbridge.guest.gateway.access_log import log_record
from mlxbridge.guest.gateway.anthropic import routes as anthropic
from mlxbridge.guest.gateway.anthropic.problems import ANTHROPIC
from mlxbridge.guest.gateway.endpoint import GATEWAY, Api, Endpoint
from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.gateway import Gateway
from mlxbridge.guest.gateway.native import routes as native
from mlxbridge.guest.gateway.ollama import routes as ollama
from mlxbridge.guest.gateway.openai import routes as openai
from mlxbridge.guest.gateway.openai.errors import OPENAI
from mlxbridge.guest.gateway.page import routes as page
from mlxbridge.guest.gateway.problem import Problem

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

ROUTES: list[BaseRoute] = [
    *health.routes,
    *openapi.routes,
    *native.routes,
    *anthropic.routes,
    *openai.routes,
    *ollama.routes,
    *page.routes,
]
"""The first that fits answers."""
APIS: list[tuple[str, Api]] = [
    ("/mlxbridge/", native.NATIVE),
    ("/v1/messages", ANTHROPIC),
    ("/v1/", OPENAI),
    ("/api/", ollama.OLLAMA),
    ("/", health.PLAIN),
]
"""Whose shape errors have at paths that there are not, by how these begin; the first that fits."""


def make_app(gateway: Gateway, routes: Sequence[BaseRoute] = ROUTES) -> ASGIApp:
    """The app of a gateway, which is to be ``running`` while the app serves."""
    gateway.listen(log_record)
    router = Router(list(routes), redirect_slashes=False, default=_not_found)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope[GATEWAY] = gateway
        await router(scope, receive, send)

    origins = gateway.settings.cors_origins
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=["*"],
        expose_headers=["x-request-id", "request-id", "retry-after"],
    )


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":  # nothing here speaks WebSocket
        await send({"type": "websocket.close", "code": 1000})
        return
    api = next(api for start, api in APIS if scope["path"].startswith(start))

    async def refuse(exchange: Exchange) -> ASGIApp:
        raise Problem(404, f"there is no {scope['method']} {scope['path']}", code="not_found")

    await Endpoint(api, "other", dict.fromkeys(_METHODS, refuse), is_open=True)(scope, receive, send)
