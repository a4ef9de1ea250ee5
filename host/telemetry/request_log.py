"""One line in the log for each call that has ended."""

from __future__ import annotations

import logging
import re
from typing import Any

from mlxbridge.errors import (
    BridgeError,
    InternalError,
    InvalidArgument,
    ModelNotFound,
    UnknownMethod,
    Unsupported,
    WorkerLost,
)
from mlxbridge.host.telemetry.request import EndedRequest
from mlxbridge.logs import fields

log = logging.getLogger(__name__)

_LOOKS = ("models", "show", "status", "subscribe")
_FAULTS = (InternalError, WorkerLost)
_QUOTING = (InvalidArgument, ModelNotFound, UnknownMethod, Unsupported)
"""Errors whose message quotes what the guest sent, which is logged only with prompts."""
_PARAM = re.compile(r"\w+(?:\[\d+\])?")
"""Where the name of a field begins; further within are names that the guest gave, as those in a schema."""


def log_request(ended: EndedRequest) -> None:
    """Log how a call went: a fault of the host's as a warning, a look at what there is for debugging alone."""
    level = _level(ended)
    if log.isEnabledFor(level):
        request = ended.request
        told: dict[str, Any] = ended.describe()
        if request.prompt is not None:
            told["prompt"] = request.prompt
        if ended.error is not None:
            told |= _describe_error(ended.error, may_quote=request.prompt is not None)
        log.log(level, "%s", _sentence(ended, told), extra=fields(**told))


def _level(ended: EndedRequest) -> int:
    if isinstance(ended.error, _FAULTS):
        return logging.WARNING
    is_look = ended.error is None and ended.request.method in _LOOKS
    return logging.DEBUG if is_look else logging.INFO


def _describe_error(error: BridgeError, *, may_quote: bool) -> dict[str, Any]:
    field = error.details.get("field")
    if may_quote or not isinstance(error, _QUOTING):
        return {"field": field, "reason": error.message}
    param = _PARAM.match(field) if isinstance(field, str) else None
    return {"field": None if param is None else param[0]}


def _sentence(ended: EndedRequest, told: dict[str, Any]) -> str:
    request = ended.request
    model = f" of {request.model}" if request.model else ""
    # What a guest wrote goes into the log as a literal, or it could write lines of its own.
    method = told["method"] if told["method"].isidentifier() else repr(told["method"])
    facts = [f"request {request.request_id}, {method}{model} for {request.guest!r}: {ended.outcome}"]
    facts += [f"{name} {told[name]!r}" for name in ("field", "reason") if told.get(name)]
    if ended.completion_tokens is not None:
        facts.append(f"{ended.prompt_tokens} + {ended.completion_tokens} tokens")
    if (ttft := told.get("ttft_ms")) is not None:
        facts.append(f"first after {ttft:.0f} ms")
    facts.append(f"{told['total_ms']:.0f} ms")
    if request.prompt is not None:
        facts.append(f"prompt {request.prompt!r}")
    return ", ".join(facts)
