"""The model of a request: which one it is, and whether it is loaded."""

from __future__ import annotations

from mlxbridge.guest.gateway.exchange import Exchange
from mlxbridge.guest.gateway.ollama.models import Found, find
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.guest.gateway.visible import no_model, visible_to
from mlxbridge.types import KeepAlive


async def find_model(exchange: Exchange, name: str) -> Found:
    """A model that the caller may use, as the host knows it.

    Raises:
        Problem: 404.
    """
    models = await exchange.run(exchange.client.list_models())
    try:
        found = find(visible_to(exchange.caller, models), name)
    except Problem:
        if exchange.caller.models is None:
            raise
        raise no_model(exchange.caller) from None
    exchange.note_model(found.name)
    return find(models, found.name)


async def load(exchange: Exchange, found: Found) -> Found:
    """The model once it is there; of one that has failed, the call itself tells why, and when to come back."""
    if found.info.state in ("ready", "failed"):
        return found
    return Found(found.name, await exchange.run(exchange.client.load_model(found.info.name)))


async def load_or_unload(exchange: Exchange, found: Found, keep_alive: KeepAlive | None) -> str:
    """What becomes of a model of which nothing is asked: it is loaded, or with a ``keep_alive`` of 0 goes after its last call.

    Returns:
        ``"load"`` or ``"unload"``.

    Raises:
        Problem: it is not the caller's to say; or the model is to go and is pinned.
    """
    client, info = exchange.client, found.info
    if keep_alive != 0:
        await exchange.run(client.load_model(info.name, keep_alive=keep_alive))
        return "load"
    if info.details.get("pinned"):
        why = f"keep_alive: {found.name} is pinned: it stays loaded"
        raise Problem(403, why, code="permission_denied", field="keep_alive")
    if info.state in ("loading", "waiting", "ready", "restarting"):
        await exchange.run(client.load_model(info.name, keep_alive=0))
    return "unload"
