"""Errors as openai's clients raise them: each has its status, its class, and names what is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import orjson
import pytest

from mlxbridge.guest.gateway.openai.errors import write_problem
from mlxbridge.guest.gateway.problem import Problem
from tests.guest.gateway.gateways import GatewayProcess, run_gateway
from tests.guest.gateway.openai.sdk import sdk_client
from tests.integration.hosts import HostProcess

SUM: list[Any] = [{"role": "user", "content": "What is 27 + 15?"}]
KEYS = """
[alice]
sha256 = "{alice}"
[bob]
sha256 = "{bob}"
models = ["gpt-4o"]
tokens_per_minute = 1
[carol]
sha256 = "{carol}"
models = ["gpt-4o"]
"""


@pytest.fixture(scope="module")
def guarded(host: HostProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("alice", "bob", "carol")}
    keys.write_text(KEYS.format(**digests))
    keys.chmod(0o600)
    with run_gateway(host.url, "--keys", str(keys), "--max-body", "2000") as gateway:
        yield gateway


def test_request_without_a_key_that_there_is_is_refused(guarded: GatewayProcess) -> None:
    with sdk_client("blocking", guarded.url, api_key="eve") as client:
        for ask in (client.models.list, lambda: client.chat.completions.create(model="demo", messages=SUM)):
            with pytest.raises(openai.AuthenticationError) as caught:
                ask()
            assert caught.value.code == "invalid_api_key"


def test_body_that_is_too_large_is_refused(guarded: GatewayProcess) -> None:
    with sdk_client("asyncio", guarded.url, api_key="alice") as client:
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "x" * 3000}])
        assert (caught.value.status_code, caught.value.code) == (413, "too_large")
        assert client.chat.completions.create(model="demo", messages=SUM).choices


def test_caller_has_her_own_models_and_limits(guarded: GatewayProcess) -> None:
    with sdk_client("blocking", guarded.url, api_key="bob") as client:
        assert [model.id for model in client.models.list()] == ["gpt-4o"]
        assert client.models.retrieve("gpt-4o").id == "gpt-4o"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("caller")
        refused_models: list[dict[str, Any]] = [{"model": "caller"}, {"model": "demo", "stream": True}]
        for asked in refused_models:
            with pytest.raises(openai.NotFoundError, match="may use gpt-4o") as refused:
                client.chat.completions.create(messages=SUM, **asked)
            assert refused.value.param == "model"
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="finder", input="x")
        assert client.chat.completions.create(model="gpt-4o", messages=SUM).choices
        with pytest.raises(openai.RateLimitError) as spent:
            client.responses.create(model="gpt-4o", input="x")
        assert int(spent.value.response.headers["retry-after"]) >= 1
        assert spent.value.code == "rate_limit_exceeded"


def test_caller_who_knows_a_model_by_an_alias_is_told_no_other_name(guarded: GatewayProcess) -> None:
    key = {"authorization": "Bearer carol"}
    with httpx.Client(base_url=guarded.url, headers=key, timeout=60) as http:
        chat = {"model": "gpt-4o", "messages": SUM, "max_tokens": 1}
        told = [
            http.post("/v1/chat/completions", json=chat),
            http.post("/v1/chat/completions", json={**chat, "stream": True}),
            http.post("/v1/responses", json={"model": "gpt-4o", "input": "What is 27 + 15?"}),
            http.post("/v1/responses", json={"model": "gpt-4o", "input": "What is 27 + 15?", "stream": True}),
            http.post("/v1/messages", json=chat),
            http.post("/api/chat", json={"model": "gpt-4o", "messages": SUM}),
            http.get("/v1/models"),
            http.get("/v1/models/gpt-4o"),
            http.get("/v1/models", headers={"anthropic-version": "2023-06-01"}),
            http.get("/v1/models/gpt-4o", headers={"anthropic-version": "2023-06-01"}),
            http.get("/api/tags"),
            http.get("/api/ps"),
            http.post("/api/show", json={"model": "gpt-4o"}),
            http.get("/mlxbridge/models"),
            http.get("/mlxbridge/status"),
        ]
        for answer in told:
            assert answer.status_code == 200 and "gpt-4o" in answer.text, answer.text
            assert "demo" not in answer.text, answer.url
        with http.stream("GET", "/mlxbridge/events") as events:
            seen: dict[str, Any] = {}
            for line in events.iter_lines():
                kind, _, data = line.partition(": ")
                if kind == "data":
                    assert "demo" not in data
                    seen |= orjson.loads(data)
                    if "models" in seen and "path" in seen:
                        break


def test_model_path_and_method_that_there_are_not_are_told(blocking: Any, http: httpx.Client) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        blocking.chat.completions.create(model="gpt-9", messages=SUM, stream=True)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.request_id == caught.value.response.json()["error"]["request_id"]
    unknown = http.post("/v1/images/generations", json={})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
    wrong = http.get("/v1/chat/completions")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b"\xff"])
def test_body_that_is_no_object_is_refused(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/v1/chat/completions", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("/v1/chat/completions", {"messages": SUM}),
        ("/v1/chat/completions", {"messages": SUM, "stream": True}),
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/responses", {"input": "x"}),
        ("/v1/responses/input_tokens", {"input": "x"}),
        ("/v1/embeddings", {"input": "x"}),
        ("/v1/rerank", {"query": "x", "documents": ["y"]}),
        ("/tokenize", {"prompt": "x"}),
        ("/detokenize", {"tokens": [1]}),
    ],
)
def test_model_that_is_no_name_is_refused(http: httpx.Client, path: str, given: dict[str, Any]) -> None:
    wrong: list[Any] = [[], {}, 5]
    for model in wrong:
        answer = http.post(path, json={**given, "model": model})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


def test_host_that_is_not_there_is_told(gateway_alone: GatewayProcess) -> None:
    with sdk_client("blocking", gateway_alone.url) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="demo", messages=SUM, stream=True)
        assert (caught.value.status_code, caught.value.type) == (503, "server_error")


def test_timeout_of_a_call_has_its_status(blocking: Any) -> None:
    endless = {"ignore_eos": True, "timeout": 0.5}
    with pytest.raises(openai.InternalServerError) as caught:
        blocking.chat.completions.create(model="demo", messages=SUM, max_tokens=1000, extra_body=endless)
    assert caught.value.status_code == 504


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (404, "invalid_request_error"),
        (429, "rate_limit_error"),
        (503, "server_error"),
    ],
)
def test_problem_is_written_with_all_that_openai_tells(status: int, kind: str) -> None:
    told = write_problem(Problem(status, "why", code="word", field="top_p"), "req-1")["error"]
    assert told == {"message": "why", "type": kind, "param": "top_p", "code": "word", "request_id": "req-1"}
