"""Errors in Anthropic's shape."""

from __future__ import annotations

from typing import Any

from mlxbridge.guest.gateway.endpoint import Api
from mlxbridge.guest.gateway.problem import Problem

_OVERLOADED = 529
"""Anthropic's own status: the host has too much to do, whoever asks; 429 is for a caller's own limits."""
_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}
_TOO_LONG = "prompt is too long: "
"""Clients know by these words that they have to shorten a chat."""


THREAD = "thread"
"""A field by which a server would keep a chat; clients send all of it once they are told that none does."""


def write_problem(problem: Problem, request_id: str) -> dict[str, Any]:
    """A problem as Anthropic's error."""
    kind = _KINDS.get(problem.status, "invalid_request_error" if problem.status < 500 else "api_error")
    message = problem.message
    if problem.code == "overloaded":
        kind = "overloaded_error"
    elif problem.code == "context_length_exceeded":
        message = _TOO_LONG + message
    error: dict[str, Any] = {"type": kind, "message": message}
    if problem.field == THREAD:
        error["details"] = {"error_code": "thread_unsupported_request", "unsupported": [THREAD]}
    return {"type": "error", "error": error, "request_id": request_id}


ANTHROPIC = Api(
    "anthropic",
    write_problem,
    id_headers=(b"request-id", b"x-request-id"),
    statuses={"overloaded": _OVERLOADED},
)
