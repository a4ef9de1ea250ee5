"""What the ollama package does not look at: bytes on the wire, keys, methods and failures amid a stream."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from ollama import Client, ResponseError

from mlxbridge import Client as Bridge
from mlxbridge.guest.gateway.callers import make_key
from tests.guest.gateway.gateways import run_gateway
from tests.integration.hosts import HostProcess

SUM = [{"role": "user", "content": "What is 27 + 15?"}]
FOREVER = [{"role": "user", "content": "<scene:forever>"}]


def test_answers_are_streamed_unless_that_is_not_wanted(raw: httpx.Client) -> None:
    streamed = raw.post("/api/chat", json={"model": "demo", "messages": SUM})
    assert streamed.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in streamed.text.splitlines()]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert all(set(line) == {"model", "created_at", "message", "done"} for line in lines[:-1])
    whole = raw.post("/api/chat", json={"model": "demo", "messages": SUM, "stream": False})
    assert whole.headers["content-type"] == "application/json"
    assert whole.json()["message"] == {"role": "assistant", "content": "27 + 15 = 42."}
    assert set(whole.json()) == set(lines[-1])


def test_logprobs_have_their_tokens_bytes(raw: httpx.Client) -> None:
    body = {
        "model": "demo",
        "prompt": SUM[0]["content"],
        "logprobs": True,
        "top_logprobs": 1,
        "stream": False,
    }
    answer = raw.post("/api/generate", json=body).json()
    assert (
        bytes(byte for token in answer["logprobs"] for byte in token["bytes"]).decode() == answer["response"]
    )
    assert all(len(token["top_logprobs"]) == 1 for token in answer["logprobs"])


def test_what_can_be_looked_at_has_a_head(raw: httpx.Client) -> None:
    for path in ("/", "/api/tags", "/api/version", "/api/ps"):  # the first is how clients see whether it runs
        head = raw.head(path)
        assert (head.status_code, head.content) == (200, b"")
    major, minor, patch = map(int, raw.get("/api/version").json()["version"].split("."))
    assert (major, minor, patch) >= (0, 6, 4)  # what clients look for


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("POST", "/api/chat", b"{", 400, "the body is no JSON"),
        ("POST", "/api/chat", b"[]", 400, "must be a JSON object"),
        ("POST", "/api/chat", b"", 400, "model: is required"),
        (
            "POST",
            "/api/chat",
            b'{"model": "demo", "tool_choice": "auto"}',
            400,
            "tool_choice: there is no such",
        ),
        ("GET", "/api/chat", None, 405, "/api/chat takes POST, not GET"),
        ("GET", "/api/nothing", None, 404, "there is no GET /api/nothing"),
        ("POST", "/api/show", b"{}", 400, "model: is required"),
        ("POST", "/api/show", b'{"name": "demo", "system": "x"}', 400, "system: "),
        ("POST", "/api/pull", b'{"model": "org/demo", "insecure": "yes"}', 400, "insecure: "),
        ("POST", "/api/pull", b'{"model": "org/demo", "username": "me"}', 400, "username: "),
        ("DELETE", "/api/delete", b'{"model": "nothing"}', 404, "model 'nothing' not found"),
        ("POST", "/api/embed", b'{"model": "demo", "input": "x"}', 400, "ask it at /api/chat"),
        (
            "POST",
            "/api/chat",
            b'{"model": "finder", "messages": [{"role": "user", "content": "x"}]}',
            400,
            "embed",
        ),
        ("POST", "/api/copy", b"{}", 501, "/api/copy: "),
        ("HEAD", "/api/blobs/sha256:00", None, 501, ""),
    ],
)
def test_error_has_ollamas_shape(
    raw: httpx.Client, method: str, path: str, body: bytes | None, status: int, told: str
) -> None:
    answer = raw.request(method, path, content=body)
    assert answer.status_code == status
    if method != "HEAD":
        assert set(answer.json()) == {"error"}
        assert told in answer.json()["error"]


def test_worker_that_dies_ends_the_stream_with_an_error(ollama: Client, models_host: HostProcess) -> None:
    with models_host.client(timeout=60) as client:
        client.load_model("caller")
        pid = next(model.details["pid"] for model in client.status().models if model.name == "caller")
    parts: list[Any] = []
    with pytest.raises(ResponseError, match="worker|process|died"):
        for part in ollama.chat("caller", FOREVER, think=False, stream=True):
            if not parts:
                os.kill(pid, signal.SIGKILL)
            parts.append(part)
    assert parts and not parts[-1].done


def test_client_that_goes_ends_its_call(raw: httpx.Client, models_host: HostProcess) -> None:
    def details(client: Bridge) -> Mapping[str, Any]:
        return next(model.details for model in client.status().models if model.name == "caller")

    body = {"model": "caller", "messages": FOREVER, "think": False}
    with models_host.client(timeout=60) as client:
        client.load_model("caller")
        before = details(client).get("tokens_total", 0)
        with raw.stream("POST", "/api/chat", json=body) as answer:
            assert next(answer.iter_lines())
        while details(client)["calls"]:
            assert models_host.process.poll() is None
        assert 0 < details(client)["tokens_total"] - before < 2000, "it would have gone on for 4000"


def test_key_has_its_own_models(models_host: HostProcess, tmp_path: Path) -> None:
    key, digest = make_key()
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[alice]\nsha256 = "{digest}"\nmodels = ["demo"]\n')
    keys.chmod(0o600)
    with run_gateway(models_host.url, "--keys", str(keys)) as gateway:
        refused = httpx.get(f"{gateway.url}/api/tags")
        assert refused.status_code == 401 and "API key" in refused.json()["error"]
        with Client(gateway.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
            assert [model.model for model in client.list().models] == ["demo:latest"]
            assert {model.model for model in client.ps().models} <= {"demo:latest"}
            assert client.chat("demo:latest", SUM).message.content == "27 + 15 = 42."
            asks: list[tuple[Callable[[], object], str, int]] = [
                (lambda: client.chat("caller", SUM), "model not found: this key may use demo", 404),
                (lambda: client.show("finder"), "model not found: this key may use demo", 404),
                (lambda: client.pull("org/demo"), "may not pull models", 403),
                (lambda: client.delete("demo"), "may not delete models", 403),
            ]
            for ask, told, status in asks:
                with pytest.raises(ResponseError, match=told) as error:
                    ask()
                assert error.value.status_code == status
