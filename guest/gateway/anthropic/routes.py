"""Where Anthropic's API is found, and what is done there."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Scope

from mlxbridge.guest.gateway.anthropic.events import MessageEvents
from mlxbridge.guest.gateway.anthropic.models import list_models, show_model
from mlxbridge.guest.gateway.anthropic.problems import ANTHROPIC
from mlxbridge.guest.gateway.anthropic.reply import Reply
from mlxbridge.guest.gateway.anthropic.requests import MessageRequest, read_request
from mlxbridge.guest.gateway.endpoint import Endpoint, route
from mlxbridge.guest.gateway.exchange import Ask, Exchange
from mlxbridge.guest.gateway.fitting import count_prompt, fit
from mlxbridge.guest.gateway.model_facts import ModelFacts, find_facts
from mlxbridge.guest.gateway.responses import Json

_VERSION = "anthropic-version"


async def create_message(exchange: Exchange) -> ASGIApp:
    """``POST /v1/messages``: the answer to a chat, whole or as it comes."""
    request, facts = await _read(exchange, is_count=False)
    options = request.options(facts)
    fitting = await fit(exchange, options, None if facts is None else facts.most_tokens)
    name = request.model or ("" if facts is None else facts.name)
    reply = Reply(name, request.thinking.shown, is_shortened=fitting is not options)
    ask = Ask(None, fitting)
    if request.is_stream:
        return exchange.stream([ask], MessageEvents(reply))
    (answer,) = await exchange.generate(ask)
    return Json(reply.whole(answer))


async def count_tokens(exchange: Exchange) -> Json:
    """``POST /v1/messages/count_tokens``: how long the chat is, as the model would read it."""
    request, facts = await _read(exchange, is_count=True)
    exchange.note_model(request.model or ("" if facts is None else facts.name))
    return Json({"input_tokens": await count_prompt(exchange, request.options(facts))})


async def _read(exchange: Exchange, *, is_count: bool) -> tuple[MessageRequest, ModelFacts | None]:
    request = read_request(await exchange.read_json(), is_count=is_count)
    exchange.names = request.names
    exchange.check_options(request.given)
    return request, await find_facts(exchange, request.model)


class _OwnRoute(Route):
    """A path that OpenAI's API has too: it is this one for those who name a version of Anthropic's."""

    def matches(self, scope: Scope) -> tuple[Match, MutableMapping[str, Any]]:
        """Whether it is asked for here."""
        if scope["type"] != "http" or _VERSION not in Headers(scope=scope):
            return Match.NONE, {}
        return super().matches(scope)


routes: list[Route] = [
    route(ANTHROPIC, "/v1/messages", POST=create_message),
    route(ANTHROPIC, "/v1/messages/count_tokens", POST=count_tokens),
    _OwnRoute("/v1/models", Endpoint(ANTHROPIC, "/v1/models", {"GET": list_models})),
    _OwnRoute("/v1/models/{model:path}", Endpoint(ANTHROPIC, "/v1/models/{model:path}", {"GET": show_model})),
]
"""They come before OpenAI's."""
