"""``/v1/rerank``: documents by how well they answer a query, in the shape of Jina, vLLM and Cohere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from starlette.types import ASGIApp

from mlxbridge.compat.openai.chat_completion import new_id
from mlxbridge.compat.refusal import check_members, refused
from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.openai import fields
from mlxbridge.guest.gateway.responses import Json
from mlxbridge.types import RankedDocument, Ranking, RerankOptions

_FIELDS = frozenset({"query", "documents", "return_documents"})


async def rerank(exchange: Exchange) -> ASGIApp:
    """``POST /v1/rerank``."""
    body = await exchange.read_json()
    check_members(body, _FIELDS | fields.RERANK_HOST)
    query, documents, has_documents = body.get("query"), _documents(body), _has_documents(body)
    if not isinstance(query, str):
        raise refused("query", "must be a text")
    options = cast(RerankOptions, {name: body[name] for name in body.keys() & fields.RERANK_HOST})
    exchange.check_options(options)
    ranking = await exchange.run(exchange.client.rerank(query, documents, **options))
    exchange.note_model(ranking.model)
    exchange.note_input(ranking.usage.prompt_tokens)
    return Json(_response(exchange.named(ranking, options.get("model")), has_documents))


def _documents(body: Mapping[str, Any]) -> list[str]:
    given = body.get("documents")
    if not isinstance(given, list):
        raise refused("documents", "must be a list of texts")
    return [_text(one, place) for place, one in enumerate(given)]


def _text(given: Any, place: int) -> str:
    """A document: a text, or as Cohere and Jina also have it, a map with nothing but one."""
    text = given["text"] if isinstance(given, dict) and given.keys() == {"text"} else given
    if not isinstance(text, str):
        raise refused(f"documents[{place}]", 'must be a text, or {"text": …}')
    return text


def _has_documents(body: Mapping[str, Any]) -> bool:
    wanted = body.get("return_documents")
    if wanted is not None and not isinstance(wanted, bool):
        raise refused("return_documents", f"must be true or false, not {wanted!r}")
    return wanted is not False


def _response(ranking: Ranking, has_documents: bool) -> dict[str, Any]:
    tokens = ranking.usage.prompt_tokens
    return {
        "id": new_id("rerank"),
        "object": "list",
        "model": ranking.model,
        "results": [_result(one, has_documents) for one in ranking],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "meta": {"tokens": {"input_tokens": tokens}},  # Cohere's word for it
    }


def _result(ranked: RankedDocument, has_document: bool) -> dict[str, Any]:
    told = {"index": ranked.index, "relevance_score": ranked.score}
    return {**told, "document": {"text": ranked.document}} if has_document else told
