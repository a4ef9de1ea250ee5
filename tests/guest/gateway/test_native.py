"""The gateway's own API: what the host does, once for all who look, and models that come and go."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlxbridge import AsyncClient
from mlxbridge.events import RequestEvent
from mlxbridge.guest.gateway.callers import Caller
from mlxbridge.guest.gateway.native import watch
from mlxbridge.guest.gateway.native.watch import Watch
from mlxbridge.guest.gateway.problem import Problem
from tests.guest.gateway.gateways import GatewayProcess, run_gateway, write_keys
from tests.helpers.hub import Hub, Repository, run_hub
from tests.integration.hosts import HostProcess, run_host
from tests.integration.test_store import MIB, demo_files


def read_events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = ""
    for line in lines:
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


class Looker:
    """Somebody who looks at a gateway's events, until the block ends."""

    def __init__(self, url: str, key: str | None = None) -> None:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=60)

    def __enter__(self) -> Looker:
        self._stream = self._client.stream("GET", "/mlxbridge/events")
        response = self._stream.__enter__()
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "text/event-stream"
        self.events = read_events(response.iter_lines())
        return self

    def __exit__(self, *error: Any) -> None:
        self._stream.__exit__(None, None, None)
        self._client.close()

    def next(self, *kinds: str) -> dict[str, Any]:
        """The next event of one of these kinds."""
        return next(value for kind, value in self.events if kind in kinds)


def lines_of(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def error_of(answer: httpx.Response, status: int) -> Mapping[str, Any]:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["request_id"] == answer.headers["x-request-id"]
    assert isinstance(error, dict)
    return error


# -- what the host does


def test_status_is_the_hosts_own(http: httpx.Client, host: HostProcess) -> None:
    told = http.get("/mlxbridge/status").json()
    with host.client() as client:
        own = client.status()
    assert (told["software"], told["chip"]) == (own.software, own.chip)
    assert told["memory"]["budget"] == own.memory.budget
    assert [model["name"] for model in told["models"]] == ["demo"]
    assert http.get("/mlxbridge/models").json()["models"][0]["name"] == "demo"


def test_status_comes_every_second(gateway: GatewayProcess) -> None:
    with Looker(gateway.url) as looker:
        first = looker.next("status")
        second = looker.next("status")
    assert [model["name"] for model in second["models"]] == ["demo"]
    assert second["uptime_seconds"] - first["uptime_seconds"] > 0.2


def test_call_of_any_guest_is_told_when_it_ends(gateway: GatewayProcess, host: HostProcess) -> None:
    with Looker(gateway.url) as looker, host.client() as client:
        looker.next("status")
        answer = client.generate("The capital of France is", max_tokens=3)
        call = looker.next("request")
    assert call["request_id"] == answer.usage.request_id
    assert (call["method"], call["model"], call["completion_tokens"]) == ("generate", "demo", 3)
    assert call["ttft_ms"] > 0
    assert "Paris" not in json.dumps(call)


def test_calls_that_ended_before_are_told_at_the_beginning(host: HostProcess) -> None:
    with run_gateway(host.url) as gateway, host.client() as client:
        with Looker(gateway.url) as looker:
            looker.next("status")
            ids = [client.generate("One", max_tokens=1).usage.request_id for _ in range(3)]
            while looker.next("request")["request_id"] != ids[-1]:
                pass
        with Looker(gateway.url) as later:
            assert [later.next("request")["request_id"] for _ in ids] == ids


def test_however_many_look_the_host_is_asked_once(host: HostProcess, gateway: GatewayProcess) -> None:
    with host.client() as client, client.subscribe(["request"]) as events:
        lookers = [Looker(gateway.url) for _ in range(5)]
        for looker in lookers:
            looker.__enter__()
        for looker in lookers:
            looker.next("status")
        began = time.monotonic()
        for _ in range(2):
            for looker in lookers:
                looker.next("status")
        seconds = time.monotonic() - began
        client.generate("x", max_tokens=1)
        asked = 0
        for event in events:
            assert isinstance(event, RequestEvent)
            if event.method == "generate":
                break
            asked += event.method == "status"
        assert 2 <= asked <= seconds + 4
        for looker in lookers:
            looker.__exit__()


def test_host_is_asked_only_while_somebody_looks(host: HostProcess, gateway: GatewayProcess) -> None:
    with host.client() as client:
        with Looker(gateway.url) as looker:
            looker.next("status")
        with client.subscribe(["request"], timeout=60) as events:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:  # until a call of ours comes two seconds after the one before
                time.sleep(2)
                client.generate("x", max_tokens=1)
                between = []
                for event in events:
                    assert isinstance(event, RequestEvent)
                    if event.method == "generate":
                        break
                    between.append(event.method)
                if "status" not in between:
                    return
        raise AssertionError("the gateway goes on asking")


def test_host_that_is_away_is_told_and_so_is_its_coming_back(tmp_path: Path) -> None:
    listen = f"unix:{tmp_path}/h.sock"
    with run_gateway(f"unix://{tmp_path}/h.sock") as gateway, Looker(gateway.url) as looker:
        away = looker.next("away")
        assert away["code"] == "host_unreachable" and away["message"]
        assert error_of(httpx.get(f"{gateway.url}/mlxbridge/status"), 503)["code"] == "host_unreachable"
        with run_host("unix", "--listen", listen):
            assert looker.next("status")["models"][0]["name"] == "demo"


def test_events_end_when_the_gateway_does(host: HostProcess) -> None:
    with run_gateway(host.url) as gateway, Looker(gateway.url) as looker:
        looker.next("status")
        gateway.process.send_signal(signal.SIGTERM)
        assert [kind for kind, _ in looker.events if kind == "error"] == []
        assert gateway.process.wait(20) == 0


# -- who may know what


def test_caller_is_told_of_her_own_alone(host: HostProcess, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    write_keys(keys, alice="manage = true", bob="", carol='models = ["other"]')
    with run_gateway(host.url, "--keys", str(keys)) as gateway, host.client() as client:
        assert error_of(httpx.get(f"{gateway.url}/mlxbridge/events"), 401)["code"] == "invalid_api_key"
        with Looker(gateway.url, "alice") as alice, Looker(gateway.url, "bob") as bob:
            alice.next("status")
            assert bob.next("status", "request")["models"][0]["name"] == "demo"
            with Looker(gateway.url, "carol") as carol:
                assert carol.next("status", "model")["models"] == []
            client.generate("x", max_tokens=1)
            assert alice.next("request")["method"] == "generate"
            told = [next(bob.events)[0] for _ in range(2)]
            assert set(told) <= {"status", "model"}
        for path in ("load", "unload", "pull", "delete"):
            answer = httpx.post(
                f"{gateway.url}/mlxbridge/models/{path}",
                json={"model": "demo"},
                headers={"authorization": "Bearer bob"},
            )
            assert error_of(answer, 403)["code"] == "permission_denied"
        with Looker(gateway.url, "alice") as alice, Looker(gateway.url, "bob") as bob:
            alice.next("status")
            headers = {"authorization": "Bearer alice"}
            for path in ("unload", "load", "unload"):
                url = f"{gateway.url}/mlxbridge/models/{path}"
                assert httpx.post(url, json={"model": "demo"}, headers=headers, timeout=60).status_code == 200
                assert _call_of(alice, path)["path"] == f"/mlxbridge/models/{path}"
            chat = {"model": "demo", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
            url, headers = f"{gateway.url}/v1/chat/completions", {"authorization": "Bearer bob"}
            assert httpx.post(url, json=chat, headers=headers, timeout=60).status_code == 200
            assert _call_of(bob, "load")["path"] == "/v1/chat/completions"


def _call_of(looker: Looker, method: str) -> dict[str, Any]:
    """The next call by that method of which the caller is known."""
    while "caller" not in (call := looker.next("request")) or call.get("method") != method:
        pass
    return call


def test_caller_whose_key_is_gone_is_told_no_more(host: HostProcess, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    write_keys(keys, alice="", bob="")
    with run_gateway(host.url, "--keys", str(keys)) as gateway, Looker(gateway.url, "bob") as bob:
        bob.next("status")
        write_keys(keys, alice="")
        gateway.process.send_signal(signal.SIGHUP)
        assert {kind for kind, _ in bob.events} <= {"status", "model"}
        again = httpx.get(f"{gateway.url}/mlxbridge/status", headers={"authorization": "Bearer bob"})
        assert error_of(again, 401)["code"] == "invalid_api_key"
        with Looker(gateway.url, "alice") as alice:
            alice.next("status")


# -- models


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    slow = Repository(files=demo_files(), stall_at=MIB)
    with (
        run_hub(org__demo=Repository(files=demo_files()), org__slow=slow) as hub,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"):
            patch.delenv(name, raising=False)
        yield hub


@pytest.fixture(scope="module")
def pulling_host(hub: Hub) -> Iterator[HostProcess]:
    with run_host("unix", "--allow-pull", models=()) as host:
        yield host


@pytest.fixture(scope="module")
def pulling_gateway(pulling_host: HostProcess) -> Iterator[GatewayProcess]:
    with run_gateway(pulling_host.url) as gateway:
        yield gateway


def test_model_is_loaded_and_unloaded(host: HostProcess, http: httpx.Client) -> None:
    *told, done = lines_of(http.post("/mlxbridge/models/load", json={"model": "demo", "keep_alive": "1h"}))
    assert {item["stage"] for item in told} <= {"loading", "waiting"}
    assert done["stage"] == "done" and done["model"]["state"] == "ready"
    unloaded = http.post("/mlxbridge/models/unload", json={"model": "demo"})
    assert unloaded.json()["state"] == "unloaded"
    *told, done = lines_of(http.post("/mlxbridge/models/load", json={"model": "demo"}))
    assert [item["stage"] for item in told][-1:] == ["loading"]
    assert done["model"]["state"] == "ready"


def test_model_is_pulled_and_deleted(pulling_gateway: GatewayProcess) -> None:
    url = pulling_gateway.url
    with httpx.Client(base_url=url, timeout=60) as http, Looker(url) as looker:
        looker.next("status")
        *told, done = lines_of(http.post("/mlxbridge/models/pull", json={"model": "org/demo"}))
        assert {item["stage"] for item in told} == {"fetching"}
        assert told[-1]["bytes_done"] <= told[-1]["bytes_total"]
        assert done["model"]["name"] == "org/demo"
        assert looker.next("pulled")["model"] == "org/demo"
        lines_of(http.post("/mlxbridge/models/load", json={"model": "org/demo"}))
        refused = http.post("/mlxbridge/models/delete", json={"model": "org/demo"})
        assert error_of(refused, 400)["field"] == "force"
        deleted = http.post("/mlxbridge/models/delete", json={"model": "org/demo", "force": True})
        assert deleted.json()["freed_bytes"] > 3 * MIB
        assert looker.next("deleted")["model"] == "org/demo"
        missing = http.post("/mlxbridge/models/pull", json={"model": "org/nothing"})
        assert error_of(missing, 404)["code"] == "model_not_found"


def test_pull_ends_when_nobody_waits_for_it(
    hub: Hub, pulling_host: HostProcess, pulling_gateway: GatewayProcess
) -> None:
    pull = f"{pulling_gateway.url}/mlxbridge/models/pull"
    with pulling_host.client(timeout=60) as client, client.subscribe(["request"], timeout=60) as events:
        with httpx.stream("POST", pull, json={"model": "org/slow"}, timeout=60) as answer:
            assert json.loads(next(answer.iter_lines()))["stage"] == "fetching"
        ended = next(event for event in events if isinstance(event, RequestEvent) and event.method == "pull")
        assert ended.finish_reason == "cancelled"
        assert not hub.repositories["org/slow"].go_on.is_set()


def test_host_that_allows_no_pull_says_so(http: httpx.Client) -> None:
    error = error_of(http.post("/mlxbridge/models/pull", json={"model": "org/demo"}), 403)
    assert error["code"] == "permission_denied"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("load", {}, "model"),
        ("load", {"model": ""}, "model"),
        ("load", {"model": "demo", "force": True}, "force"),
        ("load", {"model": "demo", "keep_alive": "soon"}, "keep_alive"),
        ("unload", {"model": 1}, "model"),
        ("delete", {"model": "demo", "force": "yes"}, "force"),
        ("pull", {"model": "org/demo", "insecure": True}, "insecure"),
    ],
)
def test_what_is_wrong_is_named(http: httpx.Client, path: str, body: dict[str, Any], field: str) -> None:
    error = error_of(http.post(f"/mlxbridge/models/{path}", json=body), 400)
    assert error["field"] == field and field in error["message"]


def test_model_that_there_is_not_is_told(http: httpx.Client) -> None:
    error = error_of(http.post("/mlxbridge/models/load", json={"model": "nothing"}), 404)
    assert error["code"] == "model_not_found"
    assert error_of(http.get("/mlxbridge/nothing"), 404)["code"] == "not_found"


async def test_streams_of_events_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MOST_OF_ONE", 2)
    monkeypatch.setattr(watch, "MOST_OF_ALL", 3)
    shared = Watch(AsyncClient("unix:///nowhere"), asyncio.Event())
    alice, bob = Caller(name="alice"), Caller(name="bob")
    streams = [shared.look(caller) for caller in (alice, alice, bob)]
    for stream in streams:
        assert b"away" in await anext(stream)
    assert shared.num_lookers == {"alice": 2, "bob": 1}
    for caller, status in ((alice, 429), (bob, 503)):
        with pytest.raises(Problem) as refused:
            await anext(shared.look(caller))
        assert (refused.value.status, refused.value.retry_after_s) == (status, 1.0)
    await streams.pop().aclose()
    async with aclosing(shared.look(bob)) as again:
        assert b"away" in await anext(again)
    for stream in streams:
        await stream.aclose()
    assert shared.num_lookers == {}
