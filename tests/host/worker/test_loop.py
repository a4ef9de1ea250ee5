"""The worker's loop over a real socket, turned by hand: one turn is one engine step."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import InvalidArgument, ModelLoadFailed, UnknownMethod
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import Engine
from mlxbridge.host.engine.loader import LoadedModel, load
from mlxbridge.host.worker.loop import Tell, WorkerLoop
from mlxbridge.protocol import GuestConnection, Windows
from mlxbridge.protocol.events import ErrorReceived, Event, ResultReceived, TokensReceived
from tests.host.engine.tiny import byte_level_tokenizer, save_model, save_tokenizer

Front = tuple[WorkerLoop, "FrontEnd"]


class FrontEnd:
    """The other end of a worker's socket."""

    def __init__(self, sock: socket.socket, loop: WorkerLoop) -> None:
        self.sock = sock
        self.loop = loop
        self.connection = GuestConnection(
            software="test", nonce=os.urandom(32), windows=Windows(items=1 << 40, bytes=1 << 40)
        )
        sock.setblocking(False)
        self.events: list[Event] = []

    def turn(self) -> bool:
        """Send what there is, let the worker take one turn, read its answer."""
        for data in self.connection.data_to_send():
            self.sock.sendall(data)
        alive = self.loop.run_once()
        try:
            while True:
                self.connection.receive_data(self.sock.recv(1 << 16))
        except BlockingIOError:
            pass
        self.events += self.connection.events()
        return alive

    def tokens(self, call: int) -> int:
        """Rows of a call that have come."""
        return sum(event.calls.count(call) for event in self.events if isinstance(event, TokensReceived))

    def end(self, call: int) -> ResultReceived | ErrorReceived | None:
        for event in self.events:
            if isinstance(event, ResultReceived | ErrorReceived) and event.call == call:
                return event
        return None


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder: Path = tmp_path_factory.mktemp("model")
    save_model(folder)
    save_tokenizer(byte_level_tokenizer(), folder)
    return load(folder, "tiny")


@pytest.fixture
def front(loaded: LoadedModel) -> Iterator[FrontEnd]:
    def load_engine(params: Mapping[str, Any], tell: Tell) -> Engine:
        tell("loading")
        if params.get("name") == "bad":
            raise ModelLoadFailed("no such weights")
        return BatchEngine(loaded, max_batch=4)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        end = FrontEnd(ours, WorkerLoop(theirs, load_engine))
        end.turn()
        assert end.connection.ready
        yield end


@pytest.fixture
def ready(front: FrontEnd) -> FrontEnd:
    call = front.connection.open_call("load", {"name": "tiny"})
    front.turn()
    end = front.end(call)
    assert isinstance(end, ResultReceived)
    assert end.result["architecture"] == "LlamaForCausalLM"
    return front


def generate(front: FrontEnd, **params: Any) -> int:
    return front.connection.open_call(
        "generate", {"prompt": "hello there", "seed": 1, "temperature": 5.0, **params}
    )


def long_calls(front: FrontEnd) -> list[int]:
    """Four calls that do not come to an end of their own soon: which seeds do is found by trying."""
    trials = {seed: generate(front, max_tokens=40, seed=seed) for seed in range(12)}
    while any(front.end(call) is None for call in trials.values()):
        front.turn()
    ends = {seed: front.end(call) for seed, call in trials.items()}
    seeds = [
        s
        for s, end in ends.items()
        if isinstance(end, ResultReceived) and end.result["finish_reason"] == "length"
    ]
    return [generate(front, max_tokens=300, seed=seed) for seed in seeds[:4]]


def test_step_writes_tokens_of_all_calls_at_once(ready: FrontEnd) -> None:
    calls = [generate(ready, max_tokens=20, seed=seed) for seed in range(4)]
    for _ in range(6):
        ready.turn()
    shared = [event for event in ready.events if isinstance(event, TokensReceived)]
    assert any(sorted(event.calls) == calls for event in shared)


def test_cancelled_call_frees_its_slot_within_one_step(ready: FrontEnd) -> None:
    calls = long_calls(ready)
    assert len(calls) == 4
    while not all(ready.tokens(call) > 2 for call in calls):
        ready.turn()
    waiting = generate(ready, max_tokens=5)  # all four slots are taken
    ready.turn()
    assert ready.tokens(waiting) == 0
    before = ready.tokens(calls[0])
    ready.connection.cancel(calls[0])
    ready.turn()
    assert ready.tokens(calls[0]) == before  # not one more step for it
    end = ready.end(calls[0])
    assert isinstance(end, ResultReceived)
    assert end.result["finish_reason"] == "cancelled"
    stats = ready.connection.open_call("stats", {})
    ready.turn()
    ready.turn()
    counted = ready.end(stats)
    assert isinstance(counted, ResultReceived)
    assert (counted.result["running"], counted.result["waiting"]) in ((3, 1), (4, 0))
    assert ready.tokens(waiting) > 0  # within two steps its slot is in use again


def test_cancel_during_the_wait_for_a_slot_ends_the_call(ready: FrontEnd) -> None:
    running = long_calls(ready)
    ready.turn()
    waiting = generate(ready, max_tokens=5)
    ready.turn()
    ready.connection.cancel(waiting)
    ready.turn()
    end = ready.end(waiting)
    assert isinstance(end, ResultReceived)
    assert (end.result["finish_reason"], end.result["completion_tokens"]) == ("cancelled", 0)
    assert all(ready.end(call) is None for call in running)


def test_refused_call_leaves_the_others_alone(ready: FrontEnd) -> None:
    good = generate(ready, max_tokens=3)
    bad = generate(ready, top_p=7.0)
    while ready.end(good) is None:
        ready.turn()
    end = ready.end(bad)
    assert isinstance(end, ErrorReceived)
    assert isinstance(end.error, InvalidArgument)
    assert isinstance(ready.end(good), ResultReceived)


def test_unknown_method_is_an_error(ready: FrontEnd) -> None:
    call = ready.connection.open_call("fly", {})
    ready.turn()
    end = ready.end(call)
    assert isinstance(end, ErrorReceived)
    assert isinstance(end.error, UnknownMethod)


def test_stats_count_what_runs(ready: FrontEnd) -> None:
    generate(ready, max_tokens=300)
    ready.turn()
    call = ready.connection.open_call("stats", {})
    ready.turn()
    end = ready.end(call)
    assert isinstance(end, ResultReceived)
    assert end.result["running"] + end.result["waiting"] == 1


def test_model_that_cannot_be_loaded_ends_the_worker_with_a_reason(front: FrontEnd) -> None:
    call = front.connection.open_call("load", {"name": "bad"})
    assert front.turn() is False
    end = front.end(call)
    assert isinstance(end, ErrorReceived)
    assert isinstance(end.error, ModelLoadFailed)
    assert end.error.message == "no such weights"


def test_generate_before_load_is_an_error(front: FrontEnd) -> None:
    call = generate(front)
    assert front.turn() is True
    assert isinstance(front.end(call), ErrorReceived)


def test_front_that_is_gone_ends_the_worker(ready: FrontEnd) -> None:
    generate(ready, max_tokens=300)
    ready.turn()
    ready.sock.close()
    for _ in range(3):
        if not ready.loop.run_once():
            return
    raise AssertionError("the worker goes on for nobody")
