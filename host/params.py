"""Params of a CALL, checked one by one: what cannot be honoured is refused by name (SPEC.md §10)."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping
from difflib import get_close_matches
from math import isfinite
from typing import Any

from mlxbridge.errors import InvalidArgument
from mlxbridge.host.engine.interface import GenerateRequest

MAX_STOPS = 64
MAX_STOP_CHARS = 1024
MAX_SEED = (1 << 64) - 1
MAX_NEW_TOKENS = 1 << 24

_GENERATE = frozenset({
    "model", "prompt", "messages", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop",
})  # fmt: skip


def check_names(method: str, params: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuse params that the method does not have.

    Raises:
        InvalidArgument: with the nearest right name.
    """
    for name in params:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(sorted(known))}"
            raise _bad(str(name)[:100], f"{method} has no such parameter; {hint}")


def parse_model(method: str, params: Mapping[str, Any]) -> str | None:
    """The ``model`` of a call, None if it names none."""
    model = params.get("model")
    if model is None or isinstance(model, str):
        return model
    raise _bad("model", f"must be a string, not {_shown(model)}")


def parse_generate(params: Mapping[str, Any]) -> GenerateRequest:
    """The request in a ``generate`` call.

    Raises:
        InvalidArgument: a parameter is unknown, of the wrong type or out of range; ``details["field"]`` names it.
    """
    check_names("generate", params, _GENERATE)
    prompt, messages = params.get("prompt"), params.get("messages")
    if (prompt is None) is (messages is None):
        raise _bad("prompt", "give either prompt or messages, not both and not neither")
    return GenerateRequest(
        prompt=None if prompt is None else _prompt(prompt),
        messages=None if messages is None else _messages(messages),
        max_tokens=_integer(params, "max_tokens", None, 1, MAX_NEW_TOKENS),
        temperature=_number(params, "temperature", 0.0, 0.0, 100.0),
        top_p=_number(params, "top_p", 1.0, 0.0, 1.0),
        top_k=_integer(params, "top_k", 0, 0, MAX_NEW_TOKENS) or 0,
        min_p=_number(params, "min_p", 0.0, 0.0, 1.0),
        seed=_integer(params, "seed", None, 0, MAX_SEED),
        stop=_stops(params.get("stop")),
    )


def _prompt(value: Any) -> str | list[int]:
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes) or len(value) % 4:
        raise _bad("prompt", f"must be text, or token ids as little-endian 32-bit numbers, not {_shown(value)}")
    ids = array("I", value)
    if sys.byteorder == "big":
        ids.byteswap()
    return ids.tolist()


def _messages(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise _bad("messages", f"must be a list of messages, not {_shown(value)}")
    return value  # the engine checks each one against the model's template


def _stops(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > MAX_STOPS:
        raise _bad("stop", f"must be a text or a list of at most {MAX_STOPS} texts, not {_shown(value)}")
    for stop in stops:
        if not isinstance(stop, str) or not 0 < len(stop) <= MAX_STOP_CHARS:
            raise _bad("stop", f"each must be a text of 1 to {MAX_STOP_CHARS} characters, not {_shown(stop)}")
    return tuple(stops)


def _integer(params: Mapping[str, Any], name: str, default: int | None, least: int, most: int) -> int | None:
    value = params.get(name)
    if value is None:
        return default
    if type(value) is not int or not least <= value <= most:
        raise _bad(name, f"must be a whole number from {least} to {most}, not {_shown(value)}")
    return value


def _number(params: Mapping[str, Any], name: str, default: float, least: float, most: float) -> float:
    value = params.get(name)
    if value is None:
        return default
    if type(value) not in (int, float) or not isfinite(value) or not least <= value <= most:
        raise _bad(name, f"must be a number from {least:g} to {most:g}, not {_shown(value)}")
    return float(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _bad(field: str, problem: str) -> InvalidArgument:
    return InvalidArgument(f"{field}: {problem}", details={"field": field})
