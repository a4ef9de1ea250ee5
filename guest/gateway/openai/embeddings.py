"""``/v1/embeddings``: texts or tokens as vectors, in numbers or in base64."""

from __future__ import annotations

from starlette.types import ASGIApp

from mlxbridge.compat.openai.lists import embed_plan, embedding_response
from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.openai import fields
from mlxbridge.guest.gateway.responses import Json


async def create_embeddings(exchange: Exchange) -> ASGIApp:
    """``POST /v1/embeddings``."""
    body = await exchange.read_json()
    inputs, options, as_base64 = embed_plan(fields.split(body, fields.EMBEDDING, fields.EMBED_HOST))
    exchange.names = {"inputs": "input"}
    exchange.check_options(options)
    found = await exchange.run(exchange.client.embed(inputs, **options))
    exchange.note_model(found.model)
    exchange.note_input(found.usage.prompt_tokens)
    return Json(embedding_response(exchange.named(found, options.get("model")), as_base64))
