"""Errors of the host as HTTP tells them: what the caller can do, in the words of the API."""

from __future__ import annotations

import pytest

from mlxbridge.compat.openai.parameters import chat_plan
from mlxbridge.errors import ContextTooLong, InvalidArgument, ModelLoadFailed, UsageError
from mlxbridge.guest.gateway.anthropic.requests import _NAMES
from mlxbridge.guest.gateway.ollama.requests import CHAT_NAMES
from mlxbridge.guest.gateway.ollama.routes import OLLAMA
from mlxbridge.guest.gateway.openai.responses import request as responses
from mlxbridge.guest.gateway.problem import PATHS, Problem
from mlxbridge.guest.requests import encode_token_ids
from mlxbridge.host.engine.checks import check_request
from mlxbridge.host.engine.interface import GenerateRequest
from mlxbridge.host.models.kind import refuse_method
from mlxbridge.host.models.store.refusals import explain


@pytest.mark.parametrize(
    ("method", "kind", "path"),
    [
        ("embed", "generate", "/v1/chat/completions"),
        ("generate", "embed", "/v1/embeddings"),
        ("embed", "rerank", "/v1/rerank"),
    ],
)
def test_model_of_another_kind_is_told_with_its_path(method: str, kind: str, path: str) -> None:
    problem = Problem.of(refuse_method(method, kind, "org/a"), paths=PATHS)
    assert problem.message.startswith("model: org/a is ") and problem.message.endswith(f": ask it at {path}")
    assert (problem.status, problem.field) == (400, "model")


def test_model_of_another_kind_is_told_with_ollamas_path() -> None:
    told = [
        Problem.of(refuse_method("rerank", kind, "a"), paths=OLLAMA.paths).message
        for kind in ("generate", "embed")
    ]
    assert told[0].endswith("ask it at /api/chat") and told[1].endswith("ask it at /api/embed")


def test_hub_that_cannot_be_reached_is_no_fault_of_the_host() -> None:
    problem = Problem.of(explain("org/a", ConnectionError("no route")))
    assert (problem.status, problem.code, problem.headers) == (503, "hub_unreachable", {"retry-after": "30"})
    assert "org/a is not on the host" in problem.message and "folder" not in problem.message
    assert Problem.of(ModelLoadFailed("bad weights")).status == 500


@pytest.mark.parametrize(
    ("names", "path"),
    [
        (responses._NAMES, "text.format.schema.properties.a"),
        (CHAT_NAMES, "format.properties.a"),
        (_NAMES, "output_config.format.schema.properties.a"),
    ],
)
def test_place_in_a_schema_is_the_apis(names: dict[str, str], path: str) -> None:
    field = "response_format.schema.properties.a"
    problem = Problem.of(InvalidArgument(f"{field} must be a map", details={"field": field}), names)
    assert (problem.field, problem.message) == (path, f"{path} must be a map")


def test_other_errors_are_the_hosts() -> None:
    error = ContextTooLong("inputs[0] has 9 tokens", details={"field": "inputs[0]", "max_tokens": 8})
    problem = Problem.of(error, {"inputs": "input"})
    assert (problem.status, problem.field, problem.message) == (400, "input[0]", "input[0] has 9 tokens")


def test_words_are_the_callers() -> None:
    with pytest.raises(UsageError, match="^messages: is missing"):
        chat_plan({"model": "demo"})
    with pytest.raises(
        UsageError, match="^max_tokens: is the same as max_completion_tokens, which says otherwise"
    ):
        chat_plan({"messages": [], "max_tokens": 1, "max_completion_tokens": 2})
    with pytest.raises(InvalidArgument, match=f"^seed must be an integer of 64 bits, not {2**70}$"):
        check_request(GenerateRequest(prompt="x", seed=float(2**70)))  # type: ignore[arg-type]
    for given in (["a"], [1, -1], "a"):
        with pytest.raises(UsageError, match="must be integers from 0 to 4294967295, not ('a'|-1)$"):
            encode_token_ids("tokens", given)  # type: ignore[arg-type]
