"""API keys and limits, over a real gateway in front of a real host."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlxbridge import Client, RequestEvent
from mlxbridge.guest.gateway.callers import make_key
from tests.guest.gateway.endless import streaming, until
from tests.guest.gateway.gateways import GatewayProcess, run_gateway
from tests.integration.hosts import HostProcess, run_host

SHORT = {"model": "demo", "prompt": "The ", "max_tokens": 4, "ignore_eos": True}
TOKENS = {"gateway": "gateway:0123456789", "guest": "guest:0123456789", "watcher": "watcher:0123456789"}
KEYS = {
    name: make_key()
    for name in (
        "plain",
        "one",
        "few",
        "other",
        "low",
        "guest",
        "manager",
        "stranger",
        "late",
        "spent",
        "scraper",
    )
}
TABLES = {
    "plain": "",
    "one": "max_in_flight = 1",
    "few": "tokens_per_minute = 5",
    "other": 'models = ["another"]',
    "low": 'priority = "low"',
    "guest": f'token = "{TOKENS["guest"]}"',
    "manager": "manage = true",
    "spent": "tokens_per_minute = 1",
    "scraper": "metrics = true",
}


def write_keys(path: Path, tables: dict[str, str]) -> None:
    path.write_text(
        "\n".join(f'[{name}]\nsha256 = "{KEYS[name][1]}"\n{table}\n' for name, table in tables.items())
    )


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    write_keys(path, TABLES)
    return path


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text("\n".join(TOKENS.values()))
    tokens.chmod(0o600)
    options = ("--kv-window", "256", "--token-file", str(tokens), "--observers", "watcher")
    with run_host("unix", *options, token=TOKENS["watcher"]) as host:
        yield host


@pytest.fixture(scope="module")
def gateway(host: HostProcess, keys: Path) -> Iterator[GatewayProcess]:
    with run_gateway(host.url, "--keys", str(keys), token=TOKENS["gateway"]) as gateway:
        yield gateway


@pytest.fixture
def watcher(host: HostProcess) -> Iterator[Client]:
    with host.client(timeout=60) as client:
        yield client


def headers(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name][0]}"}


def ask(http: httpx.Client, name: str, **more: Any) -> httpx.Response:
    return http.post("/v1/completions", json={**SHORT, **more}, headers=headers(name))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": KEYS["plain"][0]}, 401),
        ({"authorization": f"Basic {KEYS['plain'][0]}"}, 401),
        ({"authorization": f"Bearer {KEYS['plain'][1]}"}, 401),  # the hash is no key
        ({"authorization": "Bearer \xff"}, 401),
        ({"authorization": f"bearer {KEYS['plain'][0]}"}, 200),
        ({"x-api-key": KEYS["plain"][0]}, 200),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/api/tags"])
def test_key_is_needed(http: httpx.Client, sent: dict[str, str], status: int, path: str) -> None:
    answer = http.get(
        path, headers=[(name.encode(), value.encode("latin-1")) for name, value in sent.items()]
    )
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "API key" in answer.text


def test_health_needs_no_key_and_names_no_model(http: httpx.Client) -> None:
    for path in ("/healthz", "/readyz"):
        answer = http.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("stream", [False, True])
def test_one_more_than_may_be_in_flight_is_refused(http: httpx.Client, stream: bool) -> None:
    with streaming(http, headers("one")):
        refused = ask(http, "one", stream=stream)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert ask(http, "plain").status_code == 200
    until(lambda: ask(http, "one").status_code == 200)


def test_tokens_of_a_minute_are_spent(http: httpx.Client) -> None:
    assert ask(http, "few").status_code == 200
    refused = ask(http, "few")
    assert refused.status_code == 429
    assert 12 <= int(refused.headers["retry-after"]) <= 60  # 8 of 5 are spent
    assert "5 tokens a minute" in refused.json()["error"]["message"]


def test_metrics_are_for_those_who_may_know_of_all_callers(http: httpx.Client) -> None:
    for name, status in (("plain", 403), ("other", 403), ("manager", 200), ("scraper", 200)):
        assert http.get("/metrics", headers=headers(name)).status_code == status
    assert http.get("/metrics").status_code == 401
    assert "metrics = true" in http.get("/metrics", headers=headers("plain")).json()["error"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "stream": True}),
        ("/v1/responses", {"input": "x"}),
        ("/v1/embeddings", {"input": "x"}),
        ("/v1/rerank", {"query": "x", "documents": ["x"]}),
        ("/tokenize", {"prompt": "x"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}),
        ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "x"}]}),
        ("/api/chat", {"messages": [{"role": "user", "content": "x"}]}),
        ("/api/generate", {}),
        ("/api/embed", {"input": "x"}),
        ("/api/show", {}),
    ],
)
def test_model_that_is_not_the_callers_is_as_one_that_there_is_not(
    http: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    sent = {**headers("other"), "x-request-id": "same"}
    told = [
        http.post(path, json={"model": model, **body}, headers=sent)
        for model in ("demo", "nothing", "another", "demo:latest", "demo+x")  # of which the third is hers
    ]
    assert {(answer.status_code, answer.text) for answer in told} == {(404, told[0].text)}
    assert "this key may use another" in told[0].text


CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", SHORT),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 2}),
        ("/v1/responses", {"model": "demo", "input": "Hello", "max_output_tokens": 2}),
        ("/v1/responses/input_tokens", {"model": "demo", "input": "Hello"}),
        ("/tokenize", {"model": "demo", "prompt": "Hello"}),
        ("/detokenize", {"model": "demo", "tokens": [1]}),
        ("/v1/messages", {**CHAT, "max_tokens": 2}),
        ("/v1/messages/count_tokens", CHAT),
        ("/api/generate", {"model": "demo"}),
        ("/api/chat", {**CHAT, "stream": False, "options": {"num_predict": 2}}),
    ],
)
def test_how_long_models_stay_is_for_those_who_manage_them(
    http: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    told = http.post(path, json={**body, "keep_alive": 0}, headers=headers("plain"))
    assert told.status_code == 403 and "keep_alive: this key may not" in told.text
    assert http.post(path, json=body, headers=headers("plain")).status_code == 200
    kept = http.post(path, json={**body, "keep_alive": "5m"}, headers=headers("manager"))
    assert kept.status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/responses", {"model": "demo", "input": "Hello"}),
        ("/v1/responses/input_tokens", {"model": "demo", "input": "Hello"}),
        ("/v1/messages", {**CHAT, "max_tokens": 2}),
        ("/v1/messages/count_tokens", CHAT),
        ("/api/generate", {"model": "demo"}),
        ("/api/chat", CHAT),
        ("/api/embed", {"model": "demo", "input": "Hello"}),
    ],
)
def test_model_is_not_loaded_for_those_who_may_not_ask_it_now(
    http: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    assert ask(http, "spent").status_code in (200, 429)
    http.post("/mlxbridge/models/unload", json={"model": "demo"}, headers=headers("manager"))
    assert http.post(path, json=body, headers=headers("spent")).status_code in (429, 529)
    assert http.post(path, json={**body, "keep_alive": "1h"}, headers=headers("plain")).status_code == 403
    (model,) = http.get("/mlxbridge/models", headers=headers("manager")).json()["models"]
    assert model["state"] == "unloaded"


def test_vectors_and_ranks_do_not_say_how_long_models_stay(http: httpx.Client) -> None:
    for path, body in (
        ("/v1/embeddings", {"input": "a"}),
        ("/v1/rerank", {"query": "a", "documents": ["b"]}),
        ("/api/embed", {"input": "a"}),
    ):
        asked = {"model": "demo", "keep_alive": -1, **body}
        assert http.post(path, json=asked, headers=headers("plain")).status_code == 403


def test_nobody_has_more_time_than_the_gateway_gives(host: HostProcess, keys: Path) -> None:
    options = ("--keys", str(keys), "--timeout", "60")
    with (
        run_gateway(host.url, *options, token=TOKENS["gateway"]) as gateway,
        httpx.Client(base_url=gateway.url, timeout=60) as http,
    ):
        assert ask(http, "plain", timeout=60).status_code == 200
        refused = ask(http, "plain", timeout=61)
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "timeout"


def test_name_of_a_model_has_an_end(http: httpx.Client) -> None:
    refused = ask(http, "plain", model="m" * 1025)
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "model"
    assert ask(http, "plain", model="m" * 1024).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/responses", {"input": "a"}, "metadata"),
        ("/v1/responses", {"input": "a"}, "tools"),
        ("/v1/chat/completions", CHAT, "tools"),
        ("/v1/messages", {**CHAT, "max_tokens": 2}, "tools"),
        ("/api/chat", {**CHAT, "options": {"num_predict": 2}}, "tools"),
    ],
)
def test_field_without_bottom_is_named(
    http: httpx.Client, path: str, body: dict[str, Any], field: str
) -> None:
    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    tool = {"type": "function", "name": "x", "input_schema": deep, "parameters": deep}
    value = deep if field == "metadata" else [tool]
    refused = http.post(path, json={**body, field: value}, headers=headers("plain"))
    assert refused.status_code == 400 and f"{field}: is nested too deeply" in refused.text


def test_priority_is_the_callers(http: httpx.Client) -> None:
    assert ask(http, "low").status_code == ask(http, "low", priority="low").status_code == 200
    refused = ask(http, "low", priority="high")
    assert refused.status_code == 403 and "priority" in refused.json()["error"]["message"]


def test_caller_with_a_token_is_a_guest_of_her_own(http: httpx.Client, watcher: Client) -> None:
    with watcher.subscribe(["request"], timeout=60) as told:
        assert ask(http, "guest").status_code == ask(http, "plain").status_code == 200
        seen: list[str] = []
        while len(seen) < 2:
            event = next(told)
            if isinstance(event, RequestEvent) and event.method == "generate":
                seen.append(event.guest)
    assert seen == ["guest", "gateway"]


def test_keys_are_read_again_while_requests_run(
    gateway: GatewayProcess, http: httpx.Client, keys: Path
) -> None:
    assert ask(http, "late").status_code == 401
    with streaming(http, headers("plain")) as lines:
        write_keys(keys, {**TABLES, "plain": "max_in_flight = 1", "late": ""})
        gateway.process.send_signal(signal.SIGHUP)
        until(lambda: ask(http, "late").status_code == 200)
        assert ask(http, "plain").status_code == 429
        left = {name: table for name, table in TABLES.items() if name != "plain"}
        write_keys(keys, left)
        gateway.process.send_signal(signal.SIGHUP)
        until(lambda: ask(http, "late").status_code == 401)
        assert ask(http, "plain").status_code == 401
        for _ in range(6):
            next(lines)  # what had begun goes on
    keys.write_text("[broken")
    gateway.process.send_signal(signal.SIGHUP)
    gateway.wait_for_line("keys stay as they were")
    assert ask(http, "manager").status_code == 200
    write_keys(keys, TABLES)
    gateway.process.send_signal(signal.SIGHUP)
    until(lambda: ask(http, "plain").status_code == 200)
