"""The paths of responses: making one, counting what it would read, and asking for one that is not kept."""

from __future__ import annotations

from typing import Any, cast

from starlette.types import ASGIApp

from mlxbridge.guest.gateway.exchange import Ask, Exchange
from mlxbridge.guest.gateway.openai import fields
from mlxbridge.guest.gateway.openai.reasoning import fit_reasoning
from mlxbridge.guest.gateway.openai.responses import output
from mlxbridge.guest.gateway.openai.responses.events import ResponseWriter
from mlxbridge.guest.gateway.openai.responses.request import read_request
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.guest.gateway.responses import Json
from mlxbridge.types import TokenizeOptions


async def create_response(exchange: Exchange) -> ASGIApp:
    """``POST /v1/responses``."""
    request = read_request(await exchange.read_json())
    exchange.names = request.names
    ask = Ask(None, await fit_reasoning(exchange, request.options))
    if request.is_stream:
        return exchange.stream([ask], ResponseWriter(request))
    response = output.begin(request)
    (answer,) = await exchange.generate(ask)
    return Json(output.complete(response, answer, output.items_of(answer, request.tools)))


async def count_input_tokens(exchange: Exchange) -> ASGIApp:
    """``POST /v1/responses/input_tokens``."""
    request = read_request(await exchange.read_json(), is_count=True)
    exchange.names = request.names
    given: dict[str, Any] = {**await fit_reasoning(exchange, request.options)}
    options = {name: given[name] for name in given.keys() & fields.TOKENIZE_HOST}
    exchange.check_options(options)
    count = await exchange.run(
        exchange.client.count_tokens(given["messages"], **cast(TokenizeOptions, options))
    )
    return Json({"object": "response.input_tokens", "input_tokens": count})


async def find_response(exchange: Exchange) -> ASGIApp:
    """``GET /v1/responses/{id}``, and whatever else asks for one."""
    name = exchange.path["response_id"]
    raise Problem(
        404, f"there is no response {name!r}: the gateway keeps none", code="not_found", field="response_id"
    )
