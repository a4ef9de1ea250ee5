"""``/openapi.json``: all that the gateway takes and tells, as OpenAPI 3.1 has it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

from starlette.routing import BaseRoute

from mlxbridge.guest.gateway.anthropic import schemas as anthropic
from mlxbridge.guest.gateway.endpoint import route
from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.health import PLAIN
from mlxbridge.guest.gateway.native import schemas as native
from mlxbridge.guest.gateway.ollama import schemas as ollama
from mlxbridge.guest.gateway.openai import schemas as openai
from mlxbridge.guest.gateway.operation import JSON, Operation
from mlxbridge.guest.gateway.page import routes as page
from mlxbridge.guest.gateway.responses import Json
from mlxbridge.guest.gateway.schema import OBJECT, TEXT, choice, list_of, told

Operations = Mapping[tuple[str, str], Operation]

_ERRORS = {
    "gateway_error": told({"error": TEXT, "code": TEXT, "request_id": TEXT}),
    "mlxbridge_error": native.ERROR,
    "openai_error": openai.ERROR,
    "anthropic_error": anthropic.ERROR,
    "ollama_error": ollama.ERROR,
}
_OWN: Operations = {
    ("GET", "/healthz"): Operation(
        summary="Whether this process answers",
        api="gateway",
        answer={JSON: told({"status": choice("ok")})},
        is_open=True,
        asks_host=False,
    ),
    ("GET", "/readyz"): Operation(
        summary="Whether the host answers, and has a model that can be asked",
        api="gateway",
        answer={JSON: told({"status": choice("ok"), "models": list_of(TEXT, 1)}, ["status"])},
        is_open=True,
    ),
    ("GET", "/metrics"): Operation(
        summary="Counters, for Prometheus", api="gateway", answer={"text/plain": TEXT}
    ),
    ("GET", "/openapi.json"): Operation(
        summary="This page", api="gateway", answer={JSON: OBJECT}, is_open=True, asks_host=False
    ),
}
_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")


def plain_path(path: str) -> str:
    """A path of starlette's as OpenAPI has it."""
    return _PARAMETER.sub(r"{\1}", path)


@cache
def describe(*, needs_key: bool) -> dict[str, Any]:
    """The page.

    Args:
        needs_key: the gateway has API keys.
    """
    paths: dict[str, dict[str, Any]] = {}
    tables = (
        _OWN,
        _page_files(),
        native.OPERATIONS,
        openai.OPERATIONS,
        anthropic.OPERATIONS,
        ollama.OPERATIONS,
    )
    for (method, path), operation in (entry for table in tables for entry in table.items()):
        own = operation.write(f"{method.lower()} {path}")
        others = paths.setdefault(path, {})
        known = others.get(method.lower())
        others[method.lower()] = own if known is None else _either(known, own)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mlxbridge gateway",
            "version": version("mlxbridge"),
            "description": "OpenAI's, Anthropic's and Ollama's APIs, and mlxbridge's own, in front of a host.",
        },
        "paths": paths,
        "security": [{name: []} for name in _KEYS] if needs_key else [],
        "components": {"schemas": _ERRORS, "securitySchemes": _KEYS},
    }


def _page_files() -> Operations:
    return {
        ("GET", file.path): Operation(
            summary="A file of the page",
            api="mlxbridge",
            answer={"*/*": TEXT},
            is_open=True,
            asks_host=False,
        )
        for file in page.routes
    }


def _either(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """An operation that two APIs have: what each takes besides, and what either tells."""
    parameters = {(each["in"], each["name"]): each for each in _all(one, other, "parameters")}
    responses = {}
    for status in sorted({*one["responses"], *other["responses"]}):
        given = [each["responses"][status] for each in (one, other) if status in each["responses"]]
        responses[status] = given[0] if len(given) == 1 else _either_response(*given)
    tags = [*one["tags"], *other["tags"]]
    return {**one, "tags": tags, "parameters": [*parameters.values()], "responses": responses}


def _all(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> Iterable[Any]:
    return (*one.get(name, ()), *other.get(name, ()))


def _either_response(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    schemas = [each["content"][JSON]["schema"] for each in (one, other)]
    return {**one, "content": {JSON: {"schema": {"anyOf": schemas}}}}


async def tell_page(exchange: Exchange) -> Json:
    """``GET /openapi.json``."""
    return Json(describe(needs_key=exchange.gateway.settings.keys_file is not None))


routes: list[BaseRoute] = [route(PLAIN, "/openapi.json", is_open=True, GET=tell_page)]
