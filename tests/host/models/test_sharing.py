"""Several models on one machine: who is loaded, who waits, who goes. Workers and time do as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import BridgeError, ModelLoadFailed, ModelTooLarge, Unavailable, WorkerLost
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.models import crashes, errand
from mlxbridge.host.models import upkeep as upkeep_module
from mlxbridge.host.models.catalogue import Catalogue
from mlxbridge.host.models.job import Job
from mlxbridge.host.models.machine import Machine
from mlxbridge.host.models.many_job import ManyJob
from mlxbridge.host.models.memory import Memory
from mlxbridge.host.models.model import Model
from mlxbridge.host.models.need import estimate_need
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import ModelSource, classify
from tests.host.models.clock import Clock
from tests.host.models.fake_worker import FakeWorker
from tests.host.models.plenty import MACHINE, plenty

DEMO = classify("demo")
TENURE_S, GRACE_S = 10.0, 0.5


class Sink:
    def __init__(self) -> None:
        self.ends: dict[int, Mapping[str, Any] | BridgeError] = {}
        self.items: list[Any] = []

    def send_tokens(self, *columns: Any) -> None: ...

    def send_item(self, call: int, value: Any) -> None:
        self.items.append(value)

    def begin_data(self, *begun: Any) -> None:
        raise AssertionError("nothing here has payloads")

    def continue_data(self, call: int, data: memoryview) -> None:
        raise AssertionError("nothing here has payloads")

    def finish(self, call: int, result: Mapping[str, Any]) -> None:
        self.ends[call] = result

    def fail(self, call: int, error: BridgeError) -> None:
        self.ends[call] = error

    def flush(self) -> None: ...


class Host:
    """A catalogue of copies of demo, in memory for so many of them."""

    def __init__(self, room_for: float, *models: ModelSettings) -> None:
        assert DEMO.folder is not None
        self.need = estimate_need([DEMO.folder], models[0].limits).least_bytes
        self.clock = Clock()
        self.memory = plenty(int(room_for * self.need), tenure_s=TENURE_S, grace_s=GRACE_S, clock=self.clock)
        self.catalogue = Catalogue(models, self.memory)
        self.sink = Sink()
        self._num_calls = 0

    def model(self, name: str) -> Model:
        return self.catalogue.find(name)

    def states(self) -> str:
        return " ".join(model.state for model in self.catalogue)

    async def until(self, states: str) -> None:
        for _ in range(10_000):
            if self.states() == states:
                return
            await asyncio.sleep(0)
            if self.states() != states:
                await asyncio.sleep(0.0001)  # files are looked at in a thread
        raise AssertionError(f"{self.states()}, not {states}")

    async def ready(self, name: str) -> FakeWorker:
        """Load a model that there is room for."""
        self.model(name).start()
        worker = await FakeWorker.of(name)
        worker.become_ready()
        while self.model(name).state != "ready":
            await asyncio.sleep(0)
        return worker

    async def end_turn_of_a(self) -> Job:
        """Somebody asks for b, for which there is no room beside a; then a has been there for long enough."""
        job = self.call("b")
        await self.until("ready waiting")
        self.clock.pass_time(TENURE_S)
        return job

    def call(self, name: str, **params: Any) -> Job:
        self._num_calls += 1
        job = Job(self.sink, self._num_calls, "generate", {"prompt": "hello", **params})
        self.model(name).submit(job)
        return job


def settings(name: str, **others: Any) -> ModelSettings:
    return ModelSettings(name=name, **{"source": DEMO, "keep_alive_s": None, **others})


MakeHost = Callable[..., Host]


@pytest.fixture
async def make_host(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakeHost]:
    FakeWorker.started = []
    monkeypatch.setattr(upkeep_module, "Worker", FakeWorker)
    monkeypatch.setattr(crashes, "BACKOFF_FIRST_S", 0.0)
    hosts: list[Host] = []

    def make(room_for: float, *models: str | ModelSettings) -> Host:
        hosts.append(
            Host(room_for, *(settings(model) if isinstance(model, str) else model for model in models))
        )
        return hosts[-1]

    yield make
    for worker in FakeWorker.started:
        worker.may_stop.set()
    for host in hosts:
        await host.catalogue.close()
    assert all(worker.stopped for worker in FakeWorker.started)


async def test_third_model_takes_the_place_of_the_one_used_least_lately(make_host: MakeHost) -> None:
    host = make_host(2.5, "a", "b", "c")
    a, b = await host.ready("a"), await host.ready("b")
    host.clock.pass_time(1)
    a.answer(host.call("a"))
    host.clock.pass_time(1)
    job = host.call("c")
    await host.until("ready unloaded loading")
    assert b.stopped and not a.stopped
    (await FakeWorker.of("c")).become_ready()
    await host.until("ready unloaded ready")
    assert (await FakeWorker.of("c")).jobs == [job]


async def test_nothing_is_loaded_before_the_process_of_another_has_ended(make_host: MakeHost) -> None:
    host = make_host(1.5, "a", "b")
    a = await host.ready("a")
    a.may_stop.clear()
    host.clock.pass_time(1)
    host.call("b")
    await host.until("unloading waiting")
    assert host.memory.describe()["reserved_bytes"] == host.model("a").describe()["reserved_bytes"]
    assert len(FakeWorker.started) == 1
    a.may_stop.set()
    await host.until("unloaded loading")


async def test_model_with_work_is_not_unloaded_before_its_turn_is_over(make_host: MakeHost) -> None:
    host = make_host(1.5, "a", "b")
    a = await host.ready("a")
    running = host.call("a")
    told: list[Any] = []
    load = asyncio.ensure_future(host.model("b").load(told.append))
    await host.until("ready waiting")
    host.clock.pass_time(TENURE_S - 1)
    later = host.call("a")
    assert (host.states(), a.jobs) == ("ready waiting", [running, later])
    host.clock.pass_time(1)
    assert host.states() == "draining waiting"
    kept = host.call("a", keep_alive=99)  # it waits for a's next turn
    a.answer(running)
    assert host.states() == "draining waiting"
    a.answer(later)
    await host.until("waiting loading")
    assert host.model("a").name in host.memory.residency.waiting
    (await FakeWorker.of("b")).become_ready()
    await load
    assert told == [{"stage": "waiting"}]
    host.clock.pass_time(GRACE_S)
    await host.until("loading unloaded")
    again = await FakeWorker.of("a")
    again.become_ready()
    await host.until("ready unloaded")
    assert again.jobs == [kept]
    assert host.model("a").describe()["keep_alive_s"] == 99
    assert [type(end) for end in host.sink.ends.values()] == [dict, dict]


async def test_call_of_many_requests_goes_on_in_its_models_next_turn(make_host: MakeHost) -> None:
    host = make_host(1.5, "a", "b")
    a = await host.ready("a")
    requests = [{"prompt": str(number)} for number in range(5)]
    params = {"requests": requests, "seed": 2**64 - 2, "max_tokens": 3}
    many = ManyJob(host.sink, 77, params, items=4)
    host.model("a").submit(many)
    assert many.hand_over() == params and many.params == {}  # as a worker does
    for index in (2, 0):
        many.take_item({"index": index, "text": "x"})
    other = await host.end_turn_of_a()
    assert (host.states(), a.num_curtailed) == ("draining waiting", 1)
    a.answer(many, completed=2, failed=0, prompt_tokens=10)
    await host.until("waiting loading")
    assert 77 not in host.sink.ends
    b = await FakeWorker.of("b")
    b.become_ready()
    await host.until("waiting ready")
    assert b.jobs == [other]
    b.answer(other)
    host.clock.pass_time(GRACE_S)
    again = await FakeWorker.of("a")
    again.become_ready()
    await host.until("ready unloaded")
    assert again.jobs == [many]
    assert many.items_left == 2
    assert many.hand_over() == {
        "requests": [
            {"prompt": "1", "seed": 2**64 - 1},
            {"prompt": "3", "seed": 1},
            {"prompt": "4", "seed": 2},
        ],
        "seed": 2**64 - 2,
        "max_tokens": 3,
    }
    for index in (1, 0, 2):
        many.take_item({"index": index, "text": "y"})
    again.answer(many, completed=2, failed=1, prompt_tokens=7)
    assert [item["index"] for item in host.sink.items] == [2, 0, 3, 1, 4]
    assert host.sink.ends[77] == {"model": "fake", "completed": 4, "failed": 1, "prompt_tokens": 17}


async def test_call_of_many_requests_can_end_while_it_waits_for_the_next_turn(make_host: MakeHost) -> None:
    host = make_host(1.5, "a", "b")
    a = await host.ready("a")
    jobs = [ManyJob(host.sink, call, {"requests": [{"prompt": "x"}]}, items=4) for call in (77, 78)]
    for many in jobs:
        host.model("a").submit(many)
    await host.end_turn_of_a()
    for many in jobs:
        a.answer(many)
    await host.until("waiting loading")
    host.model("a").cancel(jobs[0])
    assert host.states() == "waiting loading"
    await host.model("a").unload()
    assert isinstance(host.sink.ends[78], Unavailable)
    assert not jobs[1].is_unfinished


async def test_load_while_a_model_makes_way_waits_for_its_next_turn(make_host: MakeHost) -> None:
    host = make_host(1.5, "a", "b")
    a = await host.ready("a")
    running = host.call("a")
    await host.end_turn_of_a()
    load = asyncio.ensure_future(host.model("a").load())
    await asyncio.sleep(0)
    assert (host.states(), load.done()) == ("draining waiting", False)
    a.answer(running)
    await host.until("waiting loading")
    b = await FakeWorker.of("b")
    b.become_ready()
    while not b.jobs:
        await asyncio.sleep(0)
    b.answer(b.jobs[0])
    host.clock.pass_time(TENURE_S)
    await host.until("loading unloaded")
    assert not load.done()
    (await FakeWorker.of("a")).become_ready()
    await load


async def test_worker_that_dies_while_its_model_makes_way_is_not_started_again(make_host: MakeHost) -> None:
    host = make_host(1.5, "a", "b")
    a = await host.ready("a")
    running = host.call("a")
    await host.end_turn_of_a()
    a.die()
    assert isinstance(host.sink.ends[running.call], WorkerLost)
    await FakeWorker.of("b")
    assert host.states() == "unloaded loading"
    assert len(FakeWorker.started) == 2


async def test_model_that_restarts_over_and_over_makes_way_too(make_host: MakeHost, monkeypatch: Any) -> None:
    monkeypatch.setattr(crashes, "BACKOFF_FIRST_S", 1000.0)
    host = make_host(1.5, "a", "b")
    a = await host.ready("a")
    host.clock.pass_time(1)
    a.die()
    await host.until("restarting unloaded")
    waiting = host.call("a")
    host.call("b")
    await host.until("restarting waiting")
    host.clock.pass_time(TENURE_S)
    await host.until("waiting loading")
    assert waiting.call not in host.sink.ends
    assert host.model("a").describe()["crashes"] == 1  # not forgotten, since nobody asked for it


async def test_model_that_nobody_waits_for_any_more_sends_nobody_away(make_host: MakeHost) -> None:
    host = make_host(1.5, "a", "b")
    a = await host.ready("a")
    host.call("a")
    job = host.call("b")
    load = asyncio.ensure_future(host.model("b").load())
    await host.until("ready waiting")
    host.model("b").cancel(job)
    assert host.states() == "ready waiting"
    load.cancel()
    await host.until("ready unloaded")
    host.clock.pass_time(2 * TENURE_S)
    assert (host.states(), a.stopped) == ("ready unloaded", False)
    load = asyncio.ensure_future(host.model("b").load())
    await host.until("unloading waiting") if a.stopped else await host.until("draining waiting")
    assert not load.done()


async def test_unload_while_waiting_ends_the_wait(make_host: MakeHost) -> None:
    host = make_host(1.5, "a", "b")
    await host.ready("a")
    host.call("a")
    job = host.call("b")
    await host.until("ready waiting")
    await host.model("b").unload()
    assert isinstance(host.sink.ends[job.call], Unavailable)
    assert host.memory.residency.waiting == []


async def test_model_that_does_not_fit_is_refused_and_asked_again_when_somebody_loads_it(
    make_host: MakeHost,
) -> None:
    host = make_host(0.9, "a")
    job = host.call("a")
    await host.until("failed")
    error = host.sink.ends[job.call]
    assert isinstance(error, ModelTooLarge)
    assert error.details == {"needed_bytes": host.need, "budget_bytes": int(0.9 * host.need)}
    host.memory.residency.budget_bytes = host.need
    load = asyncio.ensure_future(host.model("a").load())
    (await FakeWorker.of("a")).become_ready()
    await load


async def test_calls_try_again_to_load_a_model_that_has_failed_after_a_pause(make_host: MakeHost) -> None:
    host = make_host(1.5, "a")
    refused = host.call("a")
    for pause_s in (1, 2):
        (await FakeWorker.of("a")).refuse(ModelLoadFailed("model.safetensors is damaged."))
        await host.until("failed")
        error = host.sink.ends[refused.call]
        assert isinstance(error, ModelLoadFailed)
        assert error.retry_after == pause_s
        assert (
            f"is damaged. A call after {pause_s}.0 s tries again; `mlxbridge load a` at once" in error.message
        )
        assert host.model("a").describe()["error"] == "model.safetensors is damaged."
        host.clock.pass_time(pause_s - 0.5)
        refused = host.call("a")
        assert host.states() == "failed"
        assert host.sink.ends[refused.call].retry_after == 0.5  # type: ignore[union-attr]
        host.clock.pass_time(0.5)
        refused = host.call("a")
        assert host.states() == "loading"
    worker = await FakeWorker.of("a")
    worker.become_ready()  # the cause is gone
    await host.until("ready")
    assert worker.jobs == [refused]
    assert "error" not in host.model("a").describe()


async def test_log_tells_who_waits_and_who_goes_and_why(
    make_host: MakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def told() -> list[str]:
        lines = [each.message for each in caplog.records if "reason" in getattr(each, "fields", ())]
        caplog.clear()
        return lines

    host = make_host(1.5, "a", settings("b", keep_alive_s=5.0))
    a = await host.ready("a")
    job = host.call("a")
    host.clock.pass_time(TENURE_S)
    load = asyncio.ensure_future(host.model("b").load())
    await host.until("draining waiting")
    assert sorted(told()) == [
        "model a ends its calls, then it is unloaded: others wait for its room",
        "model b waits for room: others have the memory",
    ]
    a.answer(job)
    (await FakeWorker.of("b")).become_ready()
    await load
    assert told() == ["model a is unloaded: others wait for its room"]
    host.clock.pass_time(5.0)
    await host.until("unloaded unloaded")
    assert told() == ["model b is unloaded: its keep_alive is over"]
    await host.ready("a")
    await host.model("a").unload()
    assert told() == ["model a is unloaded: a guest asked for it"]
    await host.ready("a")
    await host.catalogue.close()
    assert told() == ["model a is unloaded: the host stops"]


async def test_calls_do_not_end_a_crash_loop(make_host: MakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crashes, "CRASHES_TO_FAIL", 1)
    host = make_host(1.5, "a")
    host.call("a")
    (await FakeWorker.of("a")).die()
    await host.until("failed")
    host.clock.pass_time(1e6)
    error = host.sink.ends[host.call("a").call]
    assert isinstance(error, WorkerLost)
    assert "until somebody asks to load it, as `mlxbridge load a` does" in error.message
    assert (host.states(), error.retry_after) == ("failed", None)


async def test_model_that_does_not_fit_beside_pinned_ones_is_refused(make_host: MakeHost) -> None:
    host = make_host(1.5, settings("a", pin=True), "b")
    await host.ready("a")
    with pytest.raises(ModelTooLarge, match=r"b needs .* for it, as others are pinned \(a\); "):
        await host.model("b").load()
    host.clock.pass_time(1e6)
    assert host.states() == "ready failed"


async def test_preload_loads_what_there_is_room_for_pinned_ones_first(make_host: MakeHost) -> None:
    host = make_host(2.5, settings("a", preload=False), "b", "c", settings("d", pin=True))
    host.catalogue.preload()
    for name in ("d", "b"):
        (await FakeWorker.of(name)).become_ready()
    await host.until("unloaded ready unloaded ready")
    host.clock.pass_time(1e6)
    assert host.states() == "unloaded ready unloaded ready"


async def test_model_expires_after_its_last_call(make_host: MakeHost) -> None:
    host = make_host(1.5, settings("a", keep_alive_s=60.0))
    a = await host.ready("a")
    host.clock.pass_time(59)
    assert host.model("a").describe()["expires_in_s"] == 1
    job = host.call("a")
    host.clock.pass_time(1000)
    assert "expires_in_s" not in host.model("a").describe()
    a.answer(job)
    host.clock.pass_time(59)
    assert host.states() == "ready"
    host.clock.pass_time(1)
    await host.until("unloaded")
    assert a.stopped
    host.call("a")  # and comes again
    await host.until("loading")


async def test_latest_call_decides_how_long_a_model_stays_until_it_is_unloaded(make_host: MakeHost) -> None:
    host = make_host(1.5, settings("a", keep_alive_s=60.0))
    a = await host.ready("a")
    a.answer(host.call("a", keep_alive="2m"))
    a.answer(host.call("a"))
    assert host.model("a").describe()["expires_in_s"] == 120
    a.answer(host.call("a", keep_alive=-1))
    assert host.model("a").describe()["keep_alive_s"] is None
    host.clock.pass_time(1e6)
    assert host.states() == "ready"
    job = host.call("a", keep_alive=0)
    assert host.states() == "ready"  # it has work
    a.answer(job)
    await host.until("unloaded")
    assert host.model("a").describe()["keep_alive_s"] == 60


async def test_load_that_keeps_a_ready_model_no_longer_lets_it_go_and_does_not_load_it_again(
    make_host: MakeHost,
) -> None:
    host = make_host(1.5, "a")
    await host.ready("a")
    async with asyncio.timeout(10):
        await host.model("a").load(keep_alive=0)
    await host.until("unloaded")
    assert len(FakeWorker.started) == 1


async def test_keep_alive_that_comes_with_a_load_or_while_loading_counts(make_host: MakeHost) -> None:
    host = make_host(1.5, "a")
    load = asyncio.ensure_future(host.model("a").load(keep_alive="30s"))
    a = await FakeWorker.of("a")
    a.become_ready()
    await load
    assert host.model("a").describe()["expires_in_s"] == 30
    await host.model("a").unload()
    job = host.call("a", keep_alive=5)
    a = await FakeWorker.of("a")
    a.become_ready()
    await host.until("ready")
    a.answer(job)
    host.clock.pass_time(5)
    await host.until("unloaded")


async def test_loaded_models_together_stay_within_the_budget(make_host: MakeHost) -> None:
    host = make_host(7, "a", "b", "c")
    for name in ("a", "b", "c"):
        await host.ready(name)
    limits = [worker.params["limits"]["memory_bytes"] for worker in FakeWorker.started]
    assert sum(limits) <= 7 * host.need < sum(limits) + 3  # all of it, in equal shares
    assert host.memory.describe() == {
        "total_bytes": MACHINE.memory_bytes,
        "budget_bytes": 7 * host.need,
        "reserved_bytes": sum(limits),
    }


async def test_hub_model_is_fetched_before_it_asks_for_room(
    make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = asyncio.Event()

    async def run_errand(name: str, params: Mapping[str, Any], tell: Callable[[Any], object]) -> Any:
        assert (name, params["folder"]) == ("fetch", None)
        tell({"stage": "fetching"})
        await fetched.wait()
        return {**params, "folder": str(DEMO.folder)}

    monkeypatch.setattr(errand, "run_errand", run_errand)
    source = ModelSource(name="org/hub", kind="hub", folder=None)
    host = make_host(1.5, "a", settings("hub", source=source))
    a = await host.ready("a")
    host.call("a")
    told: list[Any] = []
    load = asyncio.ensure_future(host.model("hub").load(told.append))
    await host.until("ready loading")
    host.clock.pass_time(2 * TENURE_S)
    assert host.states() == "ready loading"  # nobody knows yet how much it needs
    assert "estimated_bytes" not in host.model("hub").describe()
    fetched.set()
    await host.until("draining waiting")
    a.answer(a.jobs[0])
    worker = await FakeWorker.of("hub")
    assert worker.params["folder"] == str(DEMO.folder)
    worker.tell({"stage": "loading"})
    worker.become_ready()
    await load
    assert told == [{"stage": "fetching"}, {"stage": "waiting"}, {"stage": "loading"}]


async def test_machine_that_does_not_say_what_it_has_bounds_nothing(
    make_host: MakeHost, caplog: pytest.LogCaptureFixture
) -> None:
    make_host(1, "unused")

    async def survey() -> Machine:
        raise WorkerLost("no word")

    catalogue = Catalogue([settings("a")], Memory(survey=survey))
    catalogue.preload()
    (await FakeWorker.of("a")).become_ready()
    await catalogue.find("a").load()
    assert FakeWorker.started[0].params["limits"]["memory_bytes"] is None
    assert "budget_bytes" not in catalogue.memory.describe()
    assert "how much memory models may take is not known: no word" in caplog.text
    await catalogue.close()


async def test_budget_beyond_the_machine_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    memory = plenty(100 << 30)
    await memory.begin()
    assert "models may take 100.00 GB by --memory, but Test Chip can well use 48.00 GB" in caplog.text


async def test_hub_models_that_are_here_count_before_they_are_loaded(make_host: MakeHost) -> None:
    make_host(1, "unused")
    asked: list[list[str]] = []

    async def locate(hub_ids: Sequence[str]) -> dict[str, Path]:
        asked.append(sorted(hub_ids))
        assert DEMO.folder is not None
        return {name: DEMO.folder for name in hub_ids if name != "org/absent"}

    def hub(name: str) -> ModelSource:
        return ModelSource(name=name, kind="hub", folder=None)

    async def told(name: str) -> int:
        async with asyncio.timeout(10):
            while (found := catalogue.find(name).describe().get("estimated_bytes")) is None:
                await asyncio.sleep(0.001)
        assert isinstance(found, int)
        return found

    catalogue = Catalogue(
        [settings("a"), settings("b", source=hub("org/b")), settings("c", source=hub("org/absent"))],
        plenty(locate=locate),
    )
    await catalogue.memory.begin()
    need = catalogue.find("a").describe()["estimated_bytes"]
    assert catalogue.find("b").describe()["estimated_bytes"] == need
    assert "estimated_bytes" not in catalogue.find("c").describe()
    catalogue.add(settings("d", source=hub("org/d")))  # as a guest's pull does
    assert await told("d") == need
    changed = settings("b", source=hub("org/b"), limits=EngineLimits(kv_bytes=1 << 30, prefix_cache_bytes=0))
    catalogue.serve([settings("a"), changed], drain_s=0.0)
    assert await told("b") > 1 << 30 > need
    assert asked == [["org/absent", "org/b"], ["org/d"], ["org/b"]]
    await catalogue.close()
