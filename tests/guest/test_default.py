"""The module functions: the same methods on one client, made from the environment when it is first needed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

import mlxbridge
from mlxbridge import Client
from mlxbridge.errors import UsageError
from mlxbridge.guest import default
from tests.guest.script_host import ScriptHost, script_host
from tests.guest.test_clients import answer


@pytest.fixture
def host(path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptHost]:
    monkeypatch.setattr(default, "_client", None)
    with script_host(path, answer) as running:
        monkeypatch.setenv("MLXBRIDGE_URL", running.url)
        yield running
        default.default_client().close()


def test_functions_give_what_the_methods_give(host: ScriptHost) -> None:
    assert mlxbridge.generate("you").text == "Hello you"
    assert [given.text for given in mlxbridge.generate("you", n=2)] == ["Hello you"] * 2
    assert [str(chunk) for chunk in mlxbridge.generate("you", stream=True)] == ["Hello ", "you"]
    assert mlxbridge.stream("you", max_tokens=3).read().text == "Hello you"
    assert mlxbridge.chat("you").text == "Hello generate"  # the script reads no messages
    assert len(mlxbridge.chat([{"role": "user", "content": "you"}], n=3)) == 3
    assert mlxbridge.chat("you", stream=True).read().finish_reason == "stop"
    assert mlxbridge.ping() > 0
    assert len(host.connections) == 1


def test_functions_refuse_a_wrong_name(host: ScriptHost) -> None:
    with pytest.raises(UsageError, match="did you mean 'seed'"):
        mlxbridge.chat("you", sed=1)  # type: ignore[call-overload]
    assert host.connections == []


def test_child_of_a_fork_makes_a_client_though_a_thread_was_about_to(
    host: ScriptHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    parent = os.getpid()

    def make() -> Client:
        if os.getpid() == parent:
            begun.set()
            go.wait(20)
        return Client()

    monkeypatch.setattr(default, "Client", make)
    thread = threading.Thread(target=default.default_client)
    thread.start()
    begun.wait(20)
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        os._exit(7 if default.generate("child").text == "Hello child" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    go.set()
    thread.join()
