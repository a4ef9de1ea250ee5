"""``/v1/models``: what the host serves, as far as the caller may use it."""

from __future__ import annotations

from dataclasses import replace

from starlette.types import ASGIApp

from mlxbridge.compat.openai.lists import model_named, model_page
from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.responses import Json
from mlxbridge.model_names import names_of
from mlxbridge.types import ModelInfo


async def list_models(exchange: Exchange) -> ASGIApp:
    """``GET /v1/models``."""
    return Json(model_page(await _models(exchange)))


async def retrieve_model(exchange: Exchange) -> ASGIApp:
    """``GET /v1/models/{model}``."""
    return Json(model_named(await _models(exchange), exchange.path["model"]))


async def _models(exchange: Exchange) -> list[ModelInfo]:
    """Those that the caller may use, by the names that she may use."""
    found = []
    for model in await exchange.run(exchange.client.list_models()):
        if names := [*filter(exchange.caller.may_use, names_of(model))]:
            found.append(replace(model, name=names[0], details={**model.details, "aliases": names[1:]}))
    return found
