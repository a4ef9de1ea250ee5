"""What happens when something dies, or is told to stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxbridge import Client
from mlxbridge.errors import (
    AuthenticationError,
    BridgeError,
    ConnectionLost,
    HostNotFound,
    TransportError,
    Unavailable,
    WorkerLost,
)
from tests.integration.hosts import TRANSPORTS, HostProcess, on_one_transport, run_host

LONG = "Count from 1 to 90."


@pytest.fixture
def own_host() -> Iterator[HostProcess]:
    """A host of the test's own, to be harmed; what happens then does not depend on the transport."""
    with run_host(TRANSPORTS[0]) as running:
        yield running


def wait_for_log(host: HostProcess, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in host.log.read_text():
        assert time.monotonic() < deadline, f"the host never said {text!r}:\n{host.log.read_text()}"
        time.sleep(0.02)


def test_killed_worker_fails_its_calls_and_comes_back(own_host: HostProcess) -> None:
    with own_host.client(timeout=60) as client:
        client.load_model("demo")
        first_pid = own_host.worker_pid(client)
        with client.chat(LONG, stream=True) as stream:
            next(stream)
            os.kill(first_pid, signal.SIGKILL)
            with pytest.raises(WorkerLost) as caught:
                stream.read()
        assert caught.value.retryable
        assert caught.value.code == 27
        assert "42" in client.chat("What is 27 + 15?").text
        assert own_host.worker_pid(client) != first_pid
        assert client.list_models()[0].details["restarts"] == 1
        assert "killed by SIGKILL" in own_host.log.read_text()
        # Once more: calls wait for a worker that starts again.
        os.kill(own_host.worker_pid(client), signal.SIGKILL)
        try:
            answer = client.chat("What is 27 + 15?")
        except WorkerLost:  # it was sent before the front saw the death
            answer = client.chat("What is 27 + 15?")
        assert "42" in answer.text


def test_sigterm_lets_running_calls_finish_and_no_new_guest_in(own_host: HostProcess) -> None:
    with own_host.client(timeout=60) as client:
        client.load_model("demo")
        with client.chat("Count from 1 to 60.", stream=True) as stream:
            next(stream)
            own_host.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 10
            with own_host.client() as other:
                while time.monotonic() < deadline:
                    try:
                        other.ping()
                    except BridgeError:
                        break
                    other.close()
                else:
                    raise AssertionError("a new guest still gets in")
            answer = stream.read()
        assert answer.finish_reason == "stop"
        assert "60" in answer.text
        assert own_host.process.wait(30) == 0
        with pytest.raises(Unavailable, match="shutting down"):
            client.chat("Hello")


def test_drain_timeout_fails_what_still_runs() -> None:
    with run_host(TRANSPORTS[0], "--drain-timeout", "0") as host, host.client(timeout=60) as client:
        client.load_model("demo")
        with client.chat(LONG, stream=True) as stream:
            next(stream)
            assert host.stop() == 0
            with pytest.raises((Unavailable, ConnectionLost)) as caught:
                stream.read()
        assert caught.value.retryable


def test_second_sigterm_stops_at_once(own_host: HostProcess) -> None:
    with own_host.client(timeout=60) as client:
        client.load_model("demo")
        with client.chat(LONG, stream=True) as stream:
            next(stream)
            own_host.process.send_signal(signal.SIGTERM)
            wait_for_log(own_host, "draining: 1 calls")
            own_host.process.send_signal(signal.SIGTERM)
            assert own_host.process.wait(15) == 0
            with pytest.raises(BridgeError):
                stream.read()


def test_killed_front_ends_its_worker_and_its_guests(own_host: HostProcess) -> None:
    with own_host.client(timeout=60) as client:
        client.load_model("demo")
        pid = own_host.worker_pid(client)
        with client.chat(LONG, stream=True) as stream:
            next(stream)
            own_host.process.kill()
            with pytest.raises(ConnectionLost):
                stream.read()
    own_host.process.wait()
    deadline = time.monotonic() + 10
    while _is_running(pid):
        assert time.monotonic() < deadline, "the worker outlived its front"
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return not Path("/proc/self/stat").exists()
    return state != "Z"


def test_call_after_the_host_stopped_says_that_nobody_is_there() -> None:
    with run_host(TRANSPORTS[0]) as host, host.client(timeout=60) as client:
        assert client.ping() > 0
        assert host.stop() == 0
        with pytest.raises((TransportError, Unavailable)):  # as it has read the host's last words or not
            client.ping()


@pytest.mark.skipif("tcp" not in TRANSPORTS, reason="tokens are tested over TCP")
def test_wrong_missing_and_unknown_tokens_are_refused() -> None:
    with run_host("tcp") as host:
        secret = (host.token or "").partition(":")[2]
        for token in ("tester:wrong-secret-wrong", "nobody:wrong-secret-wrong", f"nobody:{secret}"):
            with Client(host.url, token=token) as client, pytest.raises(AuthenticationError):
                client.ping()
        with Client(host.url) as client, pytest.raises(AuthenticationError, match="MLXBRIDGE_TOKEN"):
            client.ping()
        with host.client() as client:
            assert client.ping() > 0


@pytest.mark.skipif("unix" not in TRANSPORTS, reason="tokens are tested over unix")
def test_guest_with_a_token_refuses_a_host_without() -> None:
    with (
        run_host("unix") as host,
        Client(host.url, token="me:some-secret") as client,
        pytest.raises(AuthenticationError, match="the host has none"),
    ):
        client.ping()


def test_nobody_there_says_what_was_tried(tmp_path: Path) -> None:
    with Client("unix:///nowhere/a.sock,tcp://127.0.0.1:1") as client, pytest.raises(HostNotFound) as caught:
        client.ping()
    assert "unix:///nowhere/a.sock" in str(caught.value)
    assert "tcp://127.0.0.1:1" in str(caught.value)


@on_one_transport
def test_closing_the_client_wakes_threads_that_wait(host: HostProcess) -> None:
    client = host.client()
    stream = client.chat(LONG, stream=True)
    next(stream)
    failed = threading.Event()

    def read() -> None:
        try:
            stream.read()
        except ConnectionLost:
            failed.set()

    thread = threading.Thread(target=read)
    thread.start()
    client.close()
    thread.join(10)
    assert failed.is_set()
