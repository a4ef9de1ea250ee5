"""Whether the gateway lives, whether the host behind it can be asked, and what both have done."""

from __future__ import annotations

from starlette.routing import Route

from mlxbridge.errors import BridgeError
from mlxbridge.guest.gateway.endpoint import Api, route
from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.metrics import CONTENT_TYPE
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.guest.gateway.responses import Json, Whole

_WITHIN_S = 5.0
_SCRAPE_S = 2.0  # Prometheus waits for ten


def write_problem(problem: Problem, request_id: str) -> dict[str, str]:
    """A problem of the gateway's own paths."""
    return {"error": problem.message, "code": problem.code, "request_id": request_id}


PLAIN = Api("gateway", write_problem)


async def tell_alive(exchange: Exchange) -> Json:
    """``GET /healthz``: this process answers."""
    return Json({"status": "ok"})


async def tell_ready(exchange: Exchange) -> Json:
    """``GET /readyz``: the host answers, and has a model that can be asked; else 503.

    It needs no key, so which models there are, and why they cannot be asked, is told where nothing does.
    """
    gateway = exchange.gateway
    if gateway.stopping.is_set():
        raise Problem.stopping()
    models = await exchange.run(gateway.client.list_models(timeout=_WITHIN_S))
    usable = [model.name for model in models if model.state != "failed"]
    needs_keys = gateway.settings.keys_file is not None
    if not usable:
        reasons = "; ".join(f"{model.name}: {model.details.get('reason', 'failed')}" for model in models)
        why = "" if needs_keys else f" ({reasons or 'there is none'})"
        raise Problem(503, f"no model can be asked{why}", code="unavailable")
    return Json({"status": "ok"} if needs_keys else {"status": "ok", "models": usable})


async def tell_metrics(exchange: Exchange) -> Whole:
    """``GET /metrics``: for Prometheus, with an API key that may read what all callers do, where there are keys."""
    gateway, caller = exchange.gateway, exchange.caller
    if not (caller.metrics or caller.sees_all):
        why = "this key may not read metrics, which tell of all callers; metrics = true in the keys file lets it"
        raise Problem(403, why, code="permission_denied")
    try:
        models = await exchange.run(gateway.client.list_models(timeout=_SCRAPE_S))
    except BridgeError:
        names = None
    else:
        names = [model.name for model in models]
    body = await gateway.metrics.render(gateway.seats.in_flight, gateway.watch.num_lookers, names)
    return Whole(body, CONTENT_TYPE)


routes: list[Route] = [
    route(PLAIN, "/healthz", is_open=True, GET=tell_alive),
    route(PLAIN, "/readyz", is_open=True, GET=tell_ready),
    route(PLAIN, "/metrics", GET=tell_metrics),
]
