"""The paths under ``/mlxbridge``: what its page and other tools of its own ask."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import asdict
from typing import Any

import orjson
from starlette.routing import Route

from mlxbridge.guest.gateway.endpoint import Api, route
from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.following import Following
from mlxbridge.guest.gateway.native.watch import sse, status_for
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.guest.gateway.responses import Json, Streamed
from mlxbridge.types import ModelInfo, Progress


def write_problem(problem: Problem, request_id: str) -> dict[str, Any]:
    """A problem as this API tells it; ``field`` is absent where it is none's fault."""
    told = {"code": problem.code, "message": problem.message, "request_id": request_id}
    return {"error": told if problem.field is None else {**told, "field": problem.field}}


NATIVE = Api("mlxbridge", write_problem)


async def tell_status(exchange: Exchange) -> Json:
    """``GET /mlxbridge/status``: what the host is doing."""
    return Json(status_for(exchange.caller, await exchange.run(exchange.client.status())))


async def tell_events(exchange: Exchange) -> Streamed:
    """``GET /mlxbridge/events``: the status every second, and what happens, as server-sent events."""

    def fail(problem: Problem) -> bytes:
        return sse("error", write_problem(problem, exchange.request_id))

    return Streamed(exchange.gateway.watch.look(exchange.caller), "text/event-stream", fail)


async def list_models(exchange: Exchange) -> Json:
    """``GET /mlxbridge/models``: those that the caller may use, as ``AsyncClient.list_models`` has them."""
    return Json({"models": [asdict(model) for model in await exchange.list_models()]})


async def load_model(exchange: Exchange) -> Streamed:
    """``POST /mlxbridge/models/load``: load one, or wait until it is loaded; lines of JSON tell how far it is."""
    given = await _read(exchange, "load models", "keep_alive")
    return _tell_progress(
        exchange,
        lambda tell: exchange.client.load_model(
            given["model"], progress=tell, keep_alive=given.get("keep_alive")
        ),
    )


async def unload_model(exchange: Exchange) -> Json:
    """``POST /mlxbridge/models/unload``: give its memory back."""
    given = await _read(exchange, "unload models")
    return Json(asdict(await exchange.run(exchange.client.unload_model(given["model"]))))


async def pull_model(exchange: Exchange) -> Streamed:
    """``POST /mlxbridge/models/pull``: have the host download one; lines of JSON tell how far it is."""
    given = await _read(exchange, "pull models")
    return _tell_progress(exchange, lambda tell: exchange.client.pull_model(given["model"], progress=tell))


async def delete_model(exchange: Exchange) -> Json:
    """``POST /mlxbridge/models/delete``: delete the files of one that was pulled."""
    given = await _read(exchange, "delete models", "force")
    name, force = given["model"], given.get("force", False)
    if not isinstance(force, bool):
        raise Problem(400, f"force: must be true or false, not {force!r}", field="force")
    freed_bytes = await exchange.run(exchange.client.delete_model(name, force=force))
    return Json({"name": name, "freed_bytes": freed_bytes})


async def _read(exchange: Exchange, what: str, *more: str) -> dict[str, Any]:
    """The body of a request that is to change the host, which names a model and may have more fields."""
    exchange.check_manage(what)
    given = await exchange.read_json()
    for name in given:
        if name not in ("model", *more):
            raise Problem(400, f"{name}: there is no such field", code="unsupported_parameter", field=name)
    model = given.get("model")
    if not isinstance(model, str) or not model:
        raise Problem(400, f"model: must be the name of one, not {model!r}", field="model")
    exchange.check_model(model)
    exchange.note_model(model)
    return given


def _tell_progress(
    exchange: Exchange, work: Callable[[Progress], Coroutine[Any, Any, ModelInfo]]
) -> Streamed:
    """Lines of JSON: what the host tells of its progress, then ``{"stage": "done", "model": …}`` or ``{"error": …}``."""

    async def lines() -> AsyncGenerator[bytes]:
        async with Following(lambda tell: exchange.noting(work(tell))) as following:
            async for told in following:
                yield _line(told)
            yield _line({"stage": "done", "model": asdict(following.result())})

    return Streamed(
        lines(), "application/x-ndjson", lambda problem: _line(write_problem(problem, exchange.request_id))
    )


def _line(value: Any) -> bytes:
    return orjson.dumps(value) + b"\n"


routes: list[Route] = [
    route(NATIVE, "/mlxbridge/status", GET=tell_status),
    route(NATIVE, "/mlxbridge/events", GET=tell_events),
    route(NATIVE, "/mlxbridge/models", GET=list_models),
    route(NATIVE, "/mlxbridge/models/load", POST=load_model),
    route(NATIVE, "/mlxbridge/models/unload", POST=unload_model),
    route(NATIVE, "/mlxbridge/models/pull", POST=pull_model),
    route(NATIVE, "/mlxbridge/models/delete", POST=delete_model),
]
