"""The gateway's own paths, and what holds for all: ids, methods, pages of others, the way it ends."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.guest.gateway.gateways import GatewayProcess, run_gateway
from tests.integration.hosts import HostProcess, run_host


def test_gateway_lives_and_its_host_can_be_asked(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ok", "models": ["demo"]}
    head = http.head("/healthz")
    assert head.status_code == 200 and head.content == b""


def test_gateway_without_a_host_lives_but_is_not_ready(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[models.demo]\nsource = "demo"\n')  # which nobody asks, and so it is not loaded
    with (
        run_host("unix", "--config", str(config), models=()) as host,
        run_gateway(host.url) as gateway,
    ):
        assert httpx.get(f"{gateway.url}/readyz").status_code == 200
        host.stop()
        assert httpx.get(f"{gateway.url}/healthz").status_code == 200
        answer = httpx.get(f"{gateway.url}/readyz", timeout=30)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1


def test_where_the_host_was_looked_for_is_for_the_log(gateway_alone: GatewayProcess) -> None:
    for path in ("/readyz", "/v1/models", "/api/tags"):
        answer = httpx.get(f"{gateway_alone.url}{path}")
        assert answer.status_code == 503 and "/nowhere" not in answer.text
    assert "cannot connect to unix:///nowhere" in gateway_alone.wait_for_line("cannot be asked")


def test_request_is_called_what_the_caller_calls_it(http: httpx.Client) -> None:
    assert http.get("/healthz", headers={"x-request-id": "mine-7"}).headers["x-request-id"] == "mine-7"
    made = http.get("/healthz", headers={"x-request-id": "not one word"}).headers["x-request-id"]
    assert made.startswith("req-")


def test_path_and_method_that_there_are_not_are_told(http: httpx.Client) -> None:
    unknown = http.get("/nothing/here")
    assert unknown.status_code == 404 and "GET /nothing/here" in unknown.text
    wrong = http.delete("/healthz")
    assert wrong.status_code == 405 and wrong.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://elsewhere.example"}, 403),
        ({"host": "elsewhere.example"}, 403),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, 200),
        ({"host": "host.docker.internal:8000"}, 200),
        ({"host": "127.0.0.1:8000", "origin": "http://localhost:8000"}, 403),
        ({"host": "[::1"}, 403),
        ({"host": "[", "origin": "http://["}, 403),
        ({"host": "localhost:8000", "origin": "http://["}, 403),
    ],
)
def test_pages_of_others_may_not_ask(http: httpx.Client, headers: dict[str, str], status: int) -> None:
    assert http.get("/healthz", headers=headers).status_code == status


def test_origin_that_may_ask_is_told_so(host: HostProcess) -> None:
    with run_gateway(host.url, "--cors-origin", "https://app.example") as gateway:
        own = httpx.get(f"{gateway.url}/healthz", headers={"origin": "https://app.example"})
        assert own.headers["access-control-allow-origin"] == "https://app.example"
        other = httpx.get(f"{gateway.url}/healthz", headers={"origin": "https://other.example"})
        assert other.status_code == 403 and "access-control-allow-origin" not in other.headers


def test_gateway_ends_when_it_is_told_to(host: HostProcess) -> None:
    with run_gateway(host.url) as gateway:
        assert gateway.stop() == 0
        assert "stopped" in gateway.read_log()


def test_each_request_is_logged(gateway: GatewayProcess, http: httpx.Client) -> None:
    http.get("/nothing", headers={"x-request-id": "logged-1"})
    assert "GET /nothing 404, not_found" in gateway.wait_for_line("logged-1")
