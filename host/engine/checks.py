"""Refusing a request that no engine could honour, by the name of the field that is wrong."""

from __future__ import annotations

import reprlib
from math import isfinite
from typing import Any

from mlxbridge.errors import InvalidArgument
from mlxbridge.host.engine.interface import GenerateRequest

MAX_MESSAGE_CHARS = 300
MAX_STOPS = 64
MAX_STOP_CHARS = 4096  # all stop strings of a call together; matching takes a table row for each character


def invalid(field: str, message: str) -> InvalidArgument:
    """The error for a wrong value; the message starts with the field's name, and repeats at most so much of the value."""
    return InvalidArgument(f"{field} {message}"[:MAX_MESSAGE_CHARS], details={"field": field})


def shown(value: Any) -> str:
    """A value for a message: short, however large or deeply nested it is."""
    return reprlib.repr(value)


def check_request(request: GenerateRequest) -> None:
    """Check everything that needs no model.

    Raises:
        InvalidArgument: a field has a wrong type or value; ``details["field"]`` names it.
    """
    if (request.prompt is None) == (request.messages is None):
        raise invalid("prompt", "or messages must be given, and not both")
    _check_sampling(request)
    _check_stop(request.stop)
    if request.max_tokens is not None:
        _check_int("max_tokens", request.max_tokens, low=1)
    if request.seed is not None:
        _check_int("seed", request.seed, low=-(2**63), high=2**64 - 1)


def _check_sampling(request: GenerateRequest) -> None:
    if _number("temperature", request.temperature) < 0:
        raise invalid("temperature", f"must be 0 (greedy) or more, not {request.temperature}")
    if not 0 < _number("top_p", request.top_p) <= 1:
        raise invalid("top_p", f"must be above 0 and at most 1 (off), not {request.top_p}")
    if not 0 <= _number("min_p", request.min_p) <= 1:
        raise invalid("min_p", f"must be between 0 (off) and 1, not {request.min_p}")
    _check_int("top_k", request.top_k, low=0)


def _number(field: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise invalid(field, f"must be a finite number, not {shown(value)}")
    return float(value)


def _check_int(field: str, value: Any, *, low: int, high: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid(field, f"must be an integer, not {shown(value)}")
    if value < low:
        raise invalid(field, f"must be at least {low}, not {value}")
    if high is not None and value > high:
        raise invalid(field, f"must be at most {high}, not {value}")


def _check_stop(stop: tuple[str, ...]) -> None:
    if isinstance(stop, str) or not all(isinstance(text, str) and text for text in stop):
        raise invalid("stop", "must be a sequence of non-empty strings")
    if len(stop) > MAX_STOPS or sum(map(len, stop)) > MAX_STOP_CHARS:
        raise invalid("stop", f"takes at most {MAX_STOPS} strings and {MAX_STOP_CHARS} characters in all")
