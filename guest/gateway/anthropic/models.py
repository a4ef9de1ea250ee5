"""The host's models in Anthropic's shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxbridge.compat.refusal import refused
from mlxbridge.errors import ModelNotFound
from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.responses import Json
from mlxbridge.model_names import find_model, names_to_ask
from mlxbridge.types import ModelInfo

_UNKNOWN_DATE = "1970-01-01T00:00:00Z"  # as Anthropic has it where a date is not known
_FEW, _MOST = 20, 1000


async def list_models(exchange: Exchange) -> Json:
    """``GET /v1/models``: those that the caller may use, by each of their names, in pages."""
    query = exchange.query
    limit = _read_limit(query.get("limit", str(_FEW)))
    entries = await _entries(exchange)
    ids = [entry["id"] for entry in entries]
    start, end = 0, len(ids)
    if (after := query.get("after_id")) is not None:
        start = _place(ids, after, "after_id") + 1
    if (before := query.get("before_id")) is not None:
        end = _place(ids, before, "before_id")
        page = entries[start:end][-limit:]
    else:
        page = entries[start:end][:limit]
    return Json(
        {
            "data": page,
            "has_more": len(page) < end - start,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
        }
    )


async def show_model(exchange: Exchange) -> Json:
    """``GET /v1/models/{model}``: one of them."""
    name = exchange.path["model"]
    models = await _models(exchange)
    if (model := find_model(models, name)) is not None:
        return Json(_entry(name, model))
    names = ", ".join(name for model in models for name in names_to_ask(model))
    raise ModelNotFound(f"there is no model {name!r}; there are {names}")


async def _entries(exchange: Exchange) -> list[dict[str, Any]]:
    return [_entry(name, model) for model in await _models(exchange) for name in names_to_ask(model)]


async def _models(exchange: Exchange) -> list[ModelInfo]:
    models = await exchange.list_models()
    return [model for model in models if model.details.get("kind", "generate") == "generate"]


def _entry(name: str, model: ModelInfo) -> dict[str, Any]:
    details: Mapping[str, Any] = model.details
    return {
        "type": "model",
        "id": name,
        "display_name": name if name == model.name else f"{name} ({model.name})",
        "created_at": _UNKNOWN_DATE,
        "lifecycle": "active",
        "max_input_tokens": details.get("context_length"),
        "max_tokens": details.get("most_tokens"),
    }


def _read_limit(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise refused("limit", f"must be a whole number from 1 to {_MOST}, not {text!r}")
    return int(text)


def _place(ids: list[str], name: str, field: str) -> int:
    if name not in ids:
        raise refused(field, f"there is no model {name!r}")
    return ids.index(name)
