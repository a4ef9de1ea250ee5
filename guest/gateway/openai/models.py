"""``/v1/models``: what the caller may ask for."""

from __future__ import annotations

from starlette.types import ASGIApp

from mlxbridge.compat.openai.lists import model_named, model_page
from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.responses import Json


async def list_models(exchange: Exchange) -> ASGIApp:
    """``GET /v1/models``."""
    return Json(model_page(await exchange.list_models()))


async def retrieve_model(exchange: Exchange) -> ASGIApp:
    """``GET /v1/models/{model}``."""
    return Json(model_named(await exchange.list_models(), exchange.path["model"]))
