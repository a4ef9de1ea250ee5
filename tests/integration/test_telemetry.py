"""What a real host tells of itself: status, request ids, events, metrics, log."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlxbridge import AsyncClient, Client, Events, GuestEvent, LostEvent, ModelEvent, RequestEvent
from mlxbridge.errors import DeadlineExceeded, InvalidArgument, UnknownMethod, UsageError, WorkerLost
from mlxbridge.events import Event
from mlxbridge.host.telemetry.subscription import MAX_WAITING
from mlxbridge.protocol import Windows
from tests.integration.hosts import HostProcess, run_host


@pytest.fixture(scope="module")
def host() -> Iterator[HostProcess]:
    with run_host("unix") as running:
        with running.client() as client:
            client.load_model("demo", timeout=120)
        yield running


def test_status_tells_how_calls_went_lately(client: Client) -> None:
    for _ in range(3):
        answer = client.generate("The ", max_tokens=20, ignore_eos=True)
    (demo,) = client.status().models
    recent = demo.details["recent"]
    assert recent["window_s"] == 60 and recent["calls"] >= 3 and recent["failed"] == 0
    assert 0 < recent["ttft_ms"] <= recent["ttft_ms_p95"] < 10_000
    assert 0 <= recent["queue_ms"] <= recent["queue_ms_p95"]
    assert recent["call_tokens_per_s"] > 1
    assert demo.details["tokens_per_s"] >= 3 * answer.usage.completion_tokens / 10


def test_guest_knows_the_names_of_its_requests(client: Client) -> None:
    ids = {client.generate("The ", max_tokens=1).usage.request_id for _ in range(2)}
    with pytest.raises(InvalidArgument) as caught:
        client.generate("The ", max_tokens=1, top_p=2)
    assert caught.value.request_id
    assert len(ids | {caught.value.request_id}) == 3
    assert "request_id" not in client.load_model("demo").details


def test_subscriber_sees_a_model_load_and_answer(host: HostProcess, client: Client) -> None:
    with host.client() as watcher, watcher.subscribe(["model", "request"], timeout=60) as told:
        assert next(told).kind == "model"  # as it is
        client.unload_model("demo")
        answer = client.generate("The ", max_tokens=5, ignore_eos=True)
        seen: list[Event] = []
        while not (seen and isinstance(seen[-1], RequestEvent) and seen[-1].method == "generate"):
            seen.append(next(told))
    states = [event.state for event in seen if isinstance(event, ModelEvent)]
    assert states == ["unloading", "unloaded", "loading", "ready"]
    (unload, generate) = [event for event in seen if isinstance(event, RequestEvent)]
    assert (unload.method, unload.model, unload.finish_reason) == ("unload", "demo", None)
    assert generate.request_id == answer.usage.request_id
    assert (generate.method, generate.model, generate.finish_reason) == ("generate", "demo", "length")
    assert (generate.prompt_tokens, generate.completion_tokens) == (answer.prompt_tokens, 5)
    assert generate.ttft_ms is not None and generate.prefill_ms is not None
    assert generate.ttft_ms > 100 + generate.prefill_ms  # the model was loaded first
    assert generate.total_ms >= generate.ttft_ms


def requests(told: Events, count: int) -> list[RequestEvent]:
    """So many ends of calls, but for what subscribers themselves asked."""
    found: list[RequestEvent] = []
    for event in told:
        if isinstance(event, RequestEvent) and event.method != "subscribe":
            found.append(event)
        if len(found) == count:
            break
    return found


def test_outcomes_bear_the_name_of_their_call(client: Client) -> None:
    with client.subscribe(["request"], timeout=60) as told:
        done, failed = sorted(
            client.generate_many(["The ", {"prompt": "x", "top_p": 2}], max_tokens=1),
            key=lambda one: one.index,
        )
        (event,) = requests(told, 1)
    assert event.method == "generate_many" and event.request_id
    assert done.usage is not None and done.usage.request_id == event.request_id
    assert failed.error is not None and failed.error.request_id == event.request_id


def test_error_and_event_bear_the_same_name(client: Client) -> None:
    with client.subscribe(["request"], timeout=60) as told:
        with pytest.raises(InvalidArgument) as caught:
            client.generate("The ", max_tokens=1, top_p=2)
        (event,) = requests(told, 1)
    assert event.request_id == caught.value.request_id
    assert (event.error, event.code, event.ttft_ms) == ("InvalidArgument", 18, None)


def test_kinds_that_are_none_are_refused(client: Client) -> None:
    with pytest.raises(UsageError, match="events"):
        client.subscribe(["modle"])  # type: ignore[list-item]
    with pytest.raises(InvalidArgument, match="did you mean 'model'"):
        client._caller.ask("subscribe", {"events": ["modle"]}, 10)
    with pytest.raises(InvalidArgument, match="must be a list"):
        client._caller.ask("subscribe", {"events": []}, 10)


def test_subscription_ends_with_its_timeout_and_when_it_is_closed(client: Client) -> None:
    told = client.subscribe(["pulled"], timeout=0.1)
    with pytest.raises(DeadlineExceeded):
        next(told)
    assert list(told) == []
    with client.subscribe(["pulled"]) as told:
        told.close()
        assert list(told) == []


async def test_subscription_on_an_event_loop(host: HostProcess) -> None:
    async with AsyncClient(host.url) as client, await client.subscribe(["request"], timeout=60) as told:
        answer, event = await asyncio.gather(client.generate("The ", max_tokens=2), anext(told))
        assert isinstance(event, RequestEvent) and event.request_id == answer.usage.request_id


def test_events_on_the_command_line(host: HostProcess, client: Client) -> None:
    command = [sys.executable, "-m", "mlxbridge", "events", "--url", host.url]
    kinds = ("model", "request")
    with (
        subprocess.Popen([*command, *kinds], stdout=subprocess.PIPE, text=True) as lines,
        subprocess.Popen([*command, *kinds, "--json"], stdout=subprocess.PIPE, text=True) as objects,
    ):
        assert lines.stdout is not None and objects.stdout is not None
        assert lines.stdout.readline()[9:] == "model demo ready\n"
        assert json.loads(objects.stdout.readline())["state"] == "ready"
        request_id = client.generate("The ", max_tokens=2, ignore_eos=True).usage.request_id
        line = lines.stdout.readline()
        told = json.loads(objects.stdout.readline())
        for process in (lines, objects):
            process.terminate()
    assert f"request {request_id} generate of demo for connection" in line and "4 + 2 tokens" in line
    assert (told["kind"], told["request_id"], told["completion_tokens"]) == ("request", request_id, 2)


def test_open_subscriptions_do_not_keep_a_host_from_ending() -> None:
    with run_host("tcp") as host, host.client() as client, client.subscribe(timeout=60) as told:
        assert isinstance(next(told), ModelEvent)
        host.stop()
        assert all(event.kind != "lost" for event in told)  # and no error at the end


def scrape(port: int, request: str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") -> tuple[str, str]:
    """The status line and the body."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(request.encode())
        head, _, body = b"".join(iter(lambda: sock.recv(1 << 16), b"")).decode().partition("\r\n\r\n")
    return head.splitlines()[0], body


def samples(body: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def test_metrics_tell_of_calls_and_models() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with run_host("unix", "--metrics", f"tcp:127.0.0.1:{port}") as host, host.client() as client:
        client.load_model("demo", timeout=120)
        answers = [client.generate("The ", max_tokens=5, ignore_eos=True) for _ in range(3)]
        with pytest.raises(InvalidArgument):
            client.generate("The ", top_p=2)
        with pytest.raises(UnknownMethod):
            client._caller.ask("made-up", {}, 10)
        line, body = scrape(port)
        assert line == "HTTP/1.1 200 OK"
        found = samples(body)
        of_demo = (("model", "demo"),)
        asked = (("method", "generate"), *of_demo)
        assert found["mlxbridge_requests_total", (*asked, ("outcome", "length"))] == 3
        refused = (("method", "generate"), ("model", ""), ("outcome", "InvalidArgument"))
        assert found["mlxbridge_requests_total", refused] == 1
        unknown = (("method", "other"), ("model", ""), ("outcome", "UnknownMethod"))
        assert found["mlxbridge_requests_total", unknown] == 1
        assert found["mlxbridge_completion_tokens_total", of_demo] == 15
        assert found["mlxbridge_prompt_tokens_total", of_demo] == sum(one.prompt_tokens for one in answers)
        for name in ("time_to_first_token_seconds", "queue_seconds", "time_per_token_seconds"):
            assert found[f"mlxbridge_{name}_count", of_demo] == 3
        assert 0 < found["mlxbridge_time_to_first_token_seconds_sum", of_demo] < 30
        assert found["mlxbridge_request_seconds_count", asked] == 3
        assert found["mlxbridge_model_state", (*of_demo, ("state", "ready"))] == 1
        assert found["mlxbridge_calls_running", of_demo] == found["mlxbridge_calls_waiting", of_demo] == 0
        assert found["mlxbridge_model_memory_bytes", of_demo] > 1 << 20
        assert found["mlxbridge_memory_budget_bytes", ()] > found["mlxbridge_memory_used_bytes", ()] > 0
        assert found["mlxbridge_connections", ()] == 1
        assert scrape(port, "GET / HTTP/1.1\r\n\r\n")[0] == "HTTP/1.1 404 Not Found"
        assert scrape(port, "POST /metrics HTTP/1.1\r\n\r\n")[0] == "HTTP/1.1 405 Method Not Allowed"


def lines_of(host: HostProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in host.log.read_text().splitlines()]


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_log_for_programs_names_requests_as_guests_and_events_do() -> None:
    with (
        run_host("unix", "--log-format", "json", "--log-prompts") as host,
        host.client() as client,
        client.subscribe(["request"], timeout=60) as told,
    ):
        answer = client.generate("The zebra", max_tokens=4, ignore_eos=True)
        (event,) = requests(told, 1)
        with client.stream("The ", max_tokens=700, ignore_eos=True) as stream:
            next(stream)
            os.kill(host.worker_pid(client), signal.SIGKILL)
            with pytest.raises(WorkerLost) as caught:
                stream.read()
        until(lambda: "WorkerLost" in host.log.read_text())
        lines = {line["request_id"]: line for line in lines_of(host) if "request_id" in line}
        until(lambda: any("starting it again" in line["message"] for line in lines_of(host)))
        crash = next(line for line in lines_of(host) if "starting it again" in line["message"])
    well = lines[answer.usage.request_id]
    assert answer.usage.request_id == event.request_id
    assert (well["level"], well["method"], well["model"]) == ("info", "generate", "demo")
    assert (well["completion_tokens"], well["prompt"]) == (4, "The zebra")
    assert (well["ttft_ms"], well["total_ms"]) == (event.ttft_ms, event.total_ms)
    assert caught.value.request_id is not None
    lost = lines[caught.value.request_id]
    assert (lost["level"], lost["error"], lost["code"]) == ("warning", "WorkerLost", 27)
    assert (crash["level"], crash["model"]) == ("warning", "demo")


def test_log_for_people_has_the_names_and_no_prompts(host: HostProcess, client: Client) -> None:
    request_id = client.generate("The zebra", max_tokens=1).usage.request_id
    (line,) = [line for line in host.log.read_text().splitlines() if f"request {request_id}," in line]
    assert "INFO" in line and "generate of demo for 'connection" in line and "+ 1 tokens" in line
    assert "zebra" not in host.log.read_text()


def test_who_does_not_read_loses_events_and_holds_nobody_up(host: HostProcess, client: Client) -> None:
    link = client._connector.connected(None)
    (call,) = link.open("subscribe", [{"events": ["request"]}], Windows(items=1, bytes=0), None, None)
    ids = [client.generate("The ", max_tokens=1).usage.request_id]
    for _ in range(MAX_WAITING + 3):
        client.list_models()
    ids.append(client.generate("The ", max_tokens=1).usage.request_id)
    with Events(link, call, None) as told:
        (first,) = requests(told, 1)
        assert first.request_id == ids[0]  # there was credit for one
        link.return_credit(call)
        lost = next(told)
        assert isinstance(lost, LostEvent) and lost.count == 4
        last: Event = lost
        while not (isinstance(last, RequestEvent) and last.request_id == ids[1]):
            link.return_credit(call)
            last = next(told)


def test_with_tokens_each_sees_its_own_calls_alone_but_for_observers(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    tokens.write_text("alice:secret-of-alice\nbob:secret-of-bob\nmonitor:secret-of-monitor\n")
    options = ("--token-file", str(tokens), "--observers", "monitor")
    with (
        run_host("unix", *options, token="alice:secret-of-alice") as host,
        host.client() as alice,
        alice.subscribe(timeout=60) as told,
        Client(host.url, token="monitor:secret-of-monitor") as monitor,
        monitor.subscribe(["request"], timeout=60) as told_of_all,
        Client(host.url, token="bob:secret-of-bob") as bob,
    ):
        bob.list_models()
        bob.load_model("demo")
        alice.list_models()
        seen: list[Event] = []
        while not (seen and isinstance(seen[-1], RequestEvent)):
            seen.append(next(told))
        assert [event.guest for event in requests(told_of_all, 3)] == ["bob", "bob", "alice"]
    assert {event.guest for event in seen if isinstance(event, RequestEvent | GuestEvent)} == {"alice"}
    assert [event.state for event in seen if isinstance(event, ModelEvent)][-1] == "ready"
