"""A model's tasks and states, step by step, over workers that do as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from mlxbridge.errors import BridgeError, InternalError, ModelLoadFailed, Overloaded, Unavailable, WorkerLost
from mlxbridge.host.models import backlog as backlog_module
from mlxbridge.host.models import crashes
from mlxbridge.host.models import upkeep as upkeep_module
from mlxbridge.host.models.job import Job
from mlxbridge.host.models.model import Model
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.protocol.parts import Part
from tests.host.models.fake_worker import FakeWorker
from tests.host.models.plenty import plenty


class Sink:
    def __init__(self) -> None:
        self.ends: dict[int, Mapping[str, Any] | BridgeError] = {}

    def send_tokens(
        self,
        calls: Sequence[int],
        token_ids: Sequence[list[int]],
        texts: Sequence[str],
        logprobs: Sequence[list[bytes] | None] | None = None,
        parts: Sequence[list[Part] | None] | None = None,
    ) -> None: ...

    def send_item(self, call: int, value: Any) -> None: ...

    def begin_data(self, *begun: Any) -> None:
        raise AssertionError("nothing here has payloads")

    def continue_data(self, call: int, data: memoryview) -> None:
        raise AssertionError("nothing here has payloads")

    def finish(self, call: int, result: Mapping[str, Any]) -> None:
        self.ends[call] = result

    def fail(self, call: int, error: BridgeError) -> None:
        self.ends[call] = error

    def flush(self) -> None: ...


def job(sink: Sink, call: int, prompt: str = "hello") -> Job:
    return Job(sink, call, "generate", {"prompt": prompt})


async def turn(times: int = 5) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


@pytest.fixture
async def model(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Model]:
    FakeWorker.started = []
    monkeypatch.setattr(upkeep_module, "Worker", FakeWorker)
    monkeypatch.setattr(crashes, "BACKOFF_FIRST_S", 0.0)
    made = Model(ModelSettings.of("demo"), plenty())
    yield made
    for worker in FakeWorker.started:
        worker.may_stop.set()
    await made.unload()
    assert all(worker.stopped for worker in FakeWorker.started)


async def ready(model: Model) -> FakeWorker:
    model.start()
    worker = await FakeWorker.number(len(FakeWorker.started) + 1)
    worker.become_ready()
    await model.load()
    return worker


async def test_unload_ends_a_load_that_waits(model: Model) -> None:
    load = asyncio.create_task(model.load())
    await FakeWorker.number(1)
    await model.unload()
    with pytest.raises(Unavailable, match="demo was unloaded"):
        await load
    assert model.state == "unloaded"


async def test_load_right_after_a_failure_does_not_hide_it_from_the_first(model: Model) -> None:
    first = asyncio.create_task(model.load())
    worker = await FakeWorker.number(1)
    worker.refuse(ModelLoadFailed("broken weights"))
    while model.state != "failed":
        await asyncio.sleep(0)
    model.start()  # before the first one has been woken
    with pytest.raises(ModelLoadFailed, match="broken weights"):
        await first
    assert model.state == "loading"
    assert "error" not in model.describe()


async def test_failed_attempt_that_nobody_waits_for_is_no_warning(model: Model) -> None:
    """The fixture's loop would report it, and warnings are errors."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    model.start()
    (await FakeWorker.number(1)).refuse(ModelLoadFailed("broken"))
    while model.state != "failed":
        await asyncio.sleep(0)
    await model.unload()
    assert told == []


async def test_call_during_unload_waits_for_its_end_and_loads_again(model: Model) -> None:
    first = await ready(model)
    first.may_stop.clear()
    unload = asyncio.create_task(model.unload())
    await turn()
    sink = Sink()
    waiting = job(sink, 1)
    model.submit(waiting)
    model.start()
    await turn()
    assert model.state == "unloading"
    assert len(FakeWorker.started) == 1  # none beside the one that is being stopped
    first.may_stop.set()
    await unload
    second = await FakeWorker.number(2)
    assert model.state == "loading"
    second.become_ready()
    await model.load()
    assert second.jobs == [waiting]
    assert sink.ends == {}


async def test_load_during_unload_waits_for_its_end(model: Model) -> None:
    first = await ready(model)
    first.may_stop.clear()
    unload = asyncio.create_task(model.unload())
    await turn()
    load = asyncio.create_task(model.load())
    await turn()
    assert len(FakeWorker.started) == 1
    first.may_stop.set()
    await unload
    (await FakeWorker.number(2)).become_ready()
    await load
    assert model.state == "ready"


async def test_unload_goes_on_when_its_caller_gives_up(model: Model) -> None:
    worker = await ready(model)
    worker.may_stop.clear()
    unload = asyncio.create_task(model.unload())
    await turn()
    unload.cancel()
    await turn()
    assert model.state == "unloading"
    again = asyncio.create_task(model.unload())
    await turn()
    assert not worker.stopped
    worker.may_stop.set()
    await again
    assert worker.stopped
    assert model.state == "unloaded"


async def test_unload_finishes_a_stop_that_it_interrupted(model: Model) -> None:
    worker = await ready(model)
    worker.may_stop.clear()
    worker.die()
    await turn()  # the supervisor is stopping it
    unload = asyncio.create_task(model.unload())
    await turn()
    assert model.state == "unloading"
    worker.may_stop.set()
    await unload
    assert worker.stopped


async def test_unload_fails_what_runs_and_what_waits(model: Model) -> None:
    sink = Sink()
    model.start()
    await FakeWorker.number(1)
    model.submit(job(sink, 1))
    await model.unload()
    assert isinstance(sink.ends[1], Unavailable)
    await ready(model)
    model.submit(job(sink, 2))
    await model.unload()
    assert isinstance(sink.ends[2], Unavailable)


async def test_death_while_loading_says_how_the_process_ended(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crashes, "CRASHES_TO_FAIL", 2)
    load = asyncio.create_task(model.load())
    (await FakeWorker.number(1)).die("was killed by SIGKILL")
    (await FakeWorker.number(2)).die("exited with status 3")
    with pytest.raises(
        WorkerLost, match=r"2 times in a row \(it exited with status 3 while loading\)"
    ) as caught:
        await load
    assert not caught.value.retryable
    assert "started again" not in caught.value.message


async def test_time_to_load_is_no_stable_time(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crashes, "CRASHES_TO_FAIL", 3)
    monkeypatch.setattr(crashes, "STABLE_S", -1.0)  # any time at all would be long enough
    load = asyncio.create_task(model.load())
    for count in (1, 2, 3):
        (await FakeWorker.number(count)).die()
    with pytest.raises(WorkerLost, match="3 times in a row"):
        await load


async def test_worker_that_was_ready_for_long_may_die_again_and_again(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crashes, "CRASHES_TO_FAIL", 2)
    monkeypatch.setattr(crashes, "STABLE_S", -1.0)
    model.start()
    for count in (1, 2, 3, 4):
        worker = await FakeWorker.number(count)
        worker.become_ready()
        await model.load()
        worker.die()
        while model.state == "ready":
            await asyncio.sleep(0)
        assert model.state == "restarting"
    assert model.describe()["restarts"] == 4


async def test_load_during_a_restart_waits_for_the_new_worker(model: Model) -> None:
    worker = await ready(model)
    worker.die()
    while model.state == "ready":
        await asyncio.sleep(0)
    load = asyncio.create_task(model.load())
    second = await FakeWorker.number(2)
    assert not load.done()
    second.become_ready()
    await load


async def test_fault_of_the_supervision_fails_the_model(
    model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def start(*callbacks: Any) -> FakeWorker:
        raise RuntimeError("a bug")

    monkeypatch.setattr(FakeWorker, "start", start)
    with pytest.raises(InternalError, match="a bug"):
        await model.load()
    assert model.state == "failed"


async def test_progress_is_told_to_all_who_wait_and_to_latecomers(model: Model) -> None:
    told: dict[str, list[Any]] = {"early": [], "late": []}
    early = asyncio.create_task(model.load(told["early"].append))
    worker = await FakeWorker.number(1)
    worker.tell({"stage": "fetching"})
    late = asyncio.create_task(model.load(told["late"].append))
    await turn()
    worker.tell({"stage": "loading"})
    worker.become_ready()
    await asyncio.gather(early, late)
    worker.tell({"stage": "too late"})
    assert told["early"] == told["late"] == [{"stage": "fetching"}, {"stage": "loading"}]
    await model.load(told["late"].append)  # ready already: nothing to tell
    assert len(told["late"]) == 2
    await model.unload()
    again: list[Any] = []
    load = asyncio.create_task(model.load(again.append))
    (await FakeWorker.number(2)).become_ready()
    await load
    assert again == []  # nothing of the load before


async def test_too_many_waiting_calls_are_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog_module, "MAX_WAITING", 2)
    sink = Sink()
    jobs = [job(sink, call) for call in range(3)]
    for each in jobs:
        model.submit(each)
    refused = sink.ends.pop(2)
    assert isinstance(refused, Overloaded)
    assert refused.retry_after
    model.cancel(jobs[0])
    model.submit(job(sink, 4))  # its place is free
    assert sink.ends == {}


async def test_waiting_calls_are_refused_by_their_size(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog_module, "MAX_WAITING_BYTES", 10_000)
    sink = Sink()
    large = job(sink, 1, "x" * 8000)
    model.submit(large)
    model.submit(job(sink, 2, "x" * 8000))
    assert isinstance(sink.ends.pop(2), Overloaded)
    model.cancel(large)
    model.submit(job(sink, 3, "x" * 8000))
    assert sink.ends == {}
