"""What the log says of requests, for people and for programs."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from tests.guest.gateway.gateways import GatewayProcess, run_gateway
from tests.integration.hosts import HostProcess

SECRET = "What is 27 + 15?"
CHAT = {"model": "demo", "messages": [{"role": "user", "content": SECRET}], "max_tokens": 20}


def ask(gateway: GatewayProcess, name: str, **more: Any) -> str:
    """The text of the answer to a request of that name."""
    url = f"{gateway.url}/v1/chat/completions"
    answer = httpx.post(url, json={**CHAT, **more}, headers={"x-request-id": name}, timeout=60)
    assert answer.status_code == 200 and answer.headers["x-request-id"] == name
    return answer.text if more else answer.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_line_for_people(gateway: GatewayProcess, more: dict[str, Any]) -> None:
    name = f"people-{len(more)}"
    ask(gateway, name, **more)
    line = gateway.wait_for_line(name)
    told = r"POST /v1/chat/completions 200, by anyone, of demo, \d+ \+ \d+ tokens, first after \d+ ms, [\d.]+ tokens/s, \d+ ms"
    assert re.search(told, line), line


def test_line_for_programs(host: HostProcess) -> None:
    with run_gateway(host.url, "--log-format", "json") as gateway:
        ask(gateway, "programs", stream=True)
        line = json.loads(gateway.wait_for_line("programs"))
        for other in gateway.read_log().splitlines():
            json.loads(other)
    told = {
        name: line[name] for name in ("level", "request_id", "method", "path", "status", "caller", "model")
    }
    assert told == {
        "level": "info",
        "request_id": "programs",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "caller": "anyone",
        "model": "demo",
    }
    assert line["prompt_tokens"] > 0 and line["completion_tokens"] > 1
    assert 0 < line["ttft_ms"] <= line["total_ms"] and line["tokens_per_second"] > 0
    assert line["host_ids"] and "error" not in line and "prompts" not in line


def test_prompts_are_logged_only_if_that_is_wanted(host: HostProcess, gateway: GatewayProcess) -> None:
    answer = ask(gateway, "private")
    gateway.wait_for_line("private")
    assert SECRET not in gateway.read_log() and answer not in gateway.read_log()
    with run_gateway(host.url, "--log-prompts", "--log-format", "json") as telling:
        answer = ask(telling, "told")
        line = json.loads(telling.wait_for_line("told"))
        assert SECRET in json.dumps(line["prompts"]) and line["answers"] == [answer]


def test_no_line_can_be_forged(gateway: GatewayProcess, http: httpx.Client) -> None:
    http.get("/x%0A12:00:00%20INFO%20%20%20%20forged%1b[2J", headers={"x-request-id": "forger"})
    gateway.wait_for_line("forger")
    log = gateway.read_log()
    assert "\n    12:00:00 INFO    forged\\u001b[2J" in log and "\n12:00:00 INFO    forged" not in log


def test_line_is_not_as_long_as_a_caller_wants(gateway: GatewayProcess, http: httpx.Client) -> None:
    name = "x" * 20_000
    http.post("/v1/completions", json={"model": name, "prompt": "x"}, headers={"x-request-id": "long-1"})
    http.get(f"/{name}", headers={"x-request-id": "long-2"})
    for number in (1, 2):
        assert len(gateway.wait_for_line(f"long-{number}")) < 1000


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_are_not_logged(gateway: GatewayProcess, http: httpx.Client, path: str) -> None:
    http.get(path, headers={"x-request-id": f"probe{path}"})
    http.get("/nothing", headers={"x-request-id": f"after{path}"})
    gateway.wait_for_line(f"after{path}")
    assert f"probe{path}" not in gateway.read_log()
