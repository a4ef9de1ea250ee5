"""Problems as OpenAI tells them."""

from __future__ import annotations

from typing import Any

from mlxbridge.guest.gateway.endpoint import Api
from mlxbridge.guest.gateway.problem import Problem


def write_problem(problem: Problem, request_id: str) -> dict[str, Any]:
    """The body of an error; ``param`` names the field that is wrong, null if it is none."""
    return {
        "error": {
            "message": problem.message,
            "type": _type(problem.status),
            "param": problem.field,
            "code": problem.code,
            "request_id": request_id,
        }
    }


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"


OPENAI = Api("openai", write_problem)
