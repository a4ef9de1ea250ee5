"""What Prometheus is told of a gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlxbridge.guest.gateway.metrics import MAX_MODELS, OTHER, Metrics
from mlxbridge.guest.gateway.record import Record
from tests.guest.gateway.endless import streaming, until
from tests.guest.gateway.gateways import GatewayProcess, run_gateway
from tests.integration.hosts import HostProcess

PREFIX = "mlxbridge_gateway_"


def value(text: str, name: str, **labels: str) -> float:
    """The sum of all samples that have these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == PREFIX + name and labels.items() <= sample.labels.items()
    )


@pytest.fixture(scope="module")
def gateway(endless_host: HostProcess) -> Iterator[GatewayProcess]:
    with run_gateway(endless_host.url) as gateway:
        yield gateway


def test_requests_are_counted(http: httpx.Client) -> None:
    body = {"model": "demo", "prompt": "The ", "max_tokens": 5, "ignore_eos": True}
    for more in ({}, {"stream": True}, {"model": "no such model"}, {"temperature": -1}):
        http.post("/v1/completions", json={**body, **more})
    http.get("/v1/models/demo")
    http.get("/nothing/at/all")
    text = http.get("/metrics").text
    place = {"api": "openai", "path": "/v1/completions", "caller": "anyone"}
    assert value(text, "requests_total", status="200", model="demo", **place) == 2
    assert value(text, "requests_total", status="404", model=OTHER, **place) == 1
    assert value(text, "requests_total", status="400", model="demo", **place) == 1
    assert value(text, "requests_total", path="/v1/models/{model:path}", status="200") == 1
    assert value(text, "requests_total", path="other", status="404") == 1
    assert "no such model" not in text and "nothing" not in text
    assert value(text, "completion_tokens_total", caller="anyone", model="demo") == 10
    assert value(text, "prompt_tokens_total", caller="anyone", model="demo") == 8
    assert value(text, "time_to_first_token_seconds_count", model="demo") == 2
    assert value(text, "tokens_per_second_count", model="demo") == 2
    assert value(text, "request_seconds_count", path="/v1/completions") == 4
    assert value(text, "host_up") == 1


CHAT = {"model": "demo", "messages": [{"role": "user", "content": "What is 27 + 15?"}]}
STREAM = {"stream": True}
TELL = {**STREAM, "stream_options": {"include_usage": True}}


def last_usage(text: str) -> tuple[int, int]:
    """Tokens of prompts and of answers, as the last JSON object of a response tells them."""
    told: Any = json.loads(text.replace("data: [DONE]", "").strip().splitlines()[-1].removeprefix("data: "))
    if told.get("type") == "message_stop":
        told = json.loads(text.strip().split("data: ")[-2].splitlines()[0])
    told = told.get("response", told) if isinstance(told.get("response"), dict) else told
    usage = told.get("usage", told)
    names = ("prompt_tokens", "input_tokens", "cache_read_input_tokens", "prompt_eval_count")
    read = sum(usage.get(name, 0) for name in names)
    written = sum(usage.get(name, 0) for name in ("completion_tokens", "output_tokens", "eval_count"))
    return read, written


@pytest.mark.parametrize("more", [{}, STREAM])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {**CHAT, "n": 3}),
        ("/v1/completions", {"model": "demo", "prompt": ["One", "Two words"], "n": 2, "max_tokens": 5}),
        ("/v1/responses", {"model": "demo", "input": "What is 27 + 15?"}),
        ("/v1/messages", {**CHAT, "max_tokens": 50}),
        ("/api/chat", {**CHAT, "stream": False}),
        ("/api/generate", {"model": "demo", "prompt": "What is 27 + 15?", "stream": False}),
    ],
)
def test_as_many_tokens_are_counted_as_the_caller_is_told(
    gateway: GatewayProcess, http: httpx.Client, path: str, body: dict[str, Any], more: dict[str, Any]
) -> None:
    def counted() -> list[float]:
        text = http.get("/metrics").text
        return [value(text, f"{kind}_tokens_total", model="demo") for kind in ("prompt", "completion")]

    if more and path.endswith("completions"):
        more = TELL
    before = counted()
    name = f"{path}-{len(more)}"
    answer = http.post(path, json={**body, **more}, headers={"x-request-id": name})
    assert answer.status_code == 200, answer.text
    read, written = last_usage(answer.text)
    assert read > 0 and written > 1
    assert [after - past for after, past in zip(counted(), before, strict=True)] == [read, written]
    assert f"{read} + {written} tokens" in gateway.wait_for_line(name)


def test_requests_under_way_and_cut_ones_are_counted(http: httpx.Client) -> None:
    before = value(http.get("/metrics").text, "requests_cut_total", model="demo")
    with streaming(http):
        text = http.get("/metrics").text
        assert value(text, "requests_under_way") == 2  # and this one
        assert value(text, "requests_in_flight", caller="anyone") == 1
    until(lambda: value(http.get("/metrics").text, "requests_under_way") == 1)
    text = http.get("/metrics").text
    assert value(text, "requests_cut_total", model="demo") == before + 1
    assert value(text, "requests_in_flight") == 0


def test_metrics_are_told_without_a_host(gateway_alone: GatewayProcess) -> None:
    assert value(httpx.get(f"{gateway_alone.url}/metrics", timeout=30).text, "host_up") == 0


async def test_names_of_models_do_not_go_on_for_ever() -> None:
    metrics = Metrics()
    for number in range(MAX_MODELS + 5):
        record = Record(request_id="", api="openai", route="/", method="POST", path="/", status=200)
        record.model, record.end = f"model-{number}", perf_counter()
        metrics.begin()
        metrics.note(record)
    text = (await metrics.render({}, {}, [])).decode()
    assert value(text, "requests_total", model=OTHER) == 5
    assert value(text, "requests_under_way") == 0
