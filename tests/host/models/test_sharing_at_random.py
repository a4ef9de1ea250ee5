"""Models that share memory, while guests, workers and time do what they like; each seed is another story."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mlxbridge.errors import BridgeError, ModelLoadFailed, Unavailable, WorkerLost
from mlxbridge.host.models import crashes
from mlxbridge.host.models import upkeep as upkeep_module
from mlxbridge.host.models.catalogue import Catalogue
from mlxbridge.host.models.job import Job
from mlxbridge.host.models.many_job import ManyJob
from mlxbridge.host.models.need import estimate_need
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import classify
from tests.host.models.clock import Clock
from tests.host.models.fake_worker import FakeWorker
from tests.host.models.plenty import plenty

DEMO = classify("demo")
NAMES = ("a", "b", "c", "d")


class Sink:
    """Holds that every call ends once, and that every request of many is answered once."""

    def __init__(self) -> None:
        self.ends: dict[int, Mapping[str, Any] | BridgeError] = {}
        self.items: dict[int, set[int]] = {}

    def send_tokens(self, *columns: Any) -> None: ...

    def begin_data(self, *begun: Any) -> None: ...

    def continue_data(self, call: int, data: memoryview) -> None: ...

    def send_item(self, call: int, value: Any) -> None:
        assert call not in self.ends and value["index"] not in self.items.setdefault(call, set())
        self.items[call].add(value["index"])

    def finish(self, call: int, result: Mapping[str, Any]) -> None:
        assert call not in self.ends
        self.ends[call] = result

    def fail(self, call: int, error: BridgeError) -> None:
        assert call not in self.ends
        self.ends[call] = error

    def flush(self) -> None: ...


class Story:
    def __init__(self, seed: int) -> None:
        FakeWorker.started = []
        assert DEMO.folder is not None
        self.chance = random.Random(seed)
        self.need = estimate_need([DEMO.folder], ModelSettings.of("demo").limits).least_bytes
        self.room_for = self.chance.choice([1, 2, 3])
        self.clock = Clock()
        self.memory = plenty(
            self.room_for * self.need + self.need // 2, tenure_s=3.0, grace_s=0.5, clock=self.clock
        )
        self.catalogue = Catalogue(
            [
                ModelSettings(name=name, source=DEMO, keep_alive_s=self.chance.choice([None, 0.0, 5.0]))
                for name in NAMES
            ],
            self.memory,
        )
        self.sink = Sink()
        self.jobs: dict[int, tuple[str, Job]] = {}
        self.num_requests: dict[int, int] = {}
        self.cancelled: set[int] = set()
        self.was_unloaded: set[str] = set()
        self.loads: list[asyncio.Task[None]] = []

    def workers(self) -> list[FakeWorker]:
        return [worker for worker in FakeWorker.started if not worker.stopped]

    def some_worker(self) -> FakeWorker | None:
        return self.chance.choice(self.workers() or [None])

    def call(self) -> None:
        name, number = self.chance.choice(NAMES), len(self.jobs)
        params: dict[str, Any] = {"prompt": "x"}
        if self.chance.random() < 0.2:
            params["keep_alive"] = self.chance.choice([-1, 0, "2s"])
        if self.chance.random() < 0.3:
            self.num_requests[number] = self.chance.randrange(1, 5)
            params["requests"] = [{"prompt": "x"}] * self.num_requests[number]
            job: Job = ManyJob(self.sink, number, params, items=100)
        else:
            job = Job(self.sink, number, "generate", params)
        self.jobs[number] = name, job
        self.catalogue.find(name).submit(job)

    def become_ready(self) -> None:
        worker = self.some_worker()
        if worker is not None and worker.params and worker.alive and not worker.is_loaded:
            worker.become_ready()

    def refuse(self) -> None:
        worker = self.some_worker()
        if worker is not None and worker.params and worker.alive and not worker.is_loaded:
            worker.refuse(ModelLoadFailed("broken"))

    def die(self) -> None:
        worker = self.some_worker()
        if worker is not None and worker.params and worker.alive:
            worker.die()

    def answer(self) -> None:
        worker = self.some_worker()
        if worker is None or not worker.jobs:
            return
        job = self.chance.choice(worker.jobs)
        if isinstance(job, ManyJob):
            requests = job.hand_over().get("requests", self._handed.get(job, []))
            self._handed[job] = requests
            is_curtailed = worker.num_curtailed > 0
            num_answered = self.chance.randint(0, len(requests)) if is_curtailed else len(requests)
            for index in self.chance.sample(range(len(requests)), num_answered):
                job.take_item({"index": index})
            del self._handed[job]
        worker.answer(job)

    _handed: dict[Job, list[Any]] = {}

    def cancel(self) -> None:
        name, job = self.chance.choice(list(self.jobs.values()) or [("a", None)])
        if job is not None and job.call not in self.sink.ends and job.call not in self.cancelled:
            self.cancelled.add(job.call)
            self.catalogue.find(name).cancel(job)

    def unload(self) -> None:
        name = self.chance.choice(NAMES)
        self.was_unloaded.add(name)
        self.loads.append(asyncio.ensure_future(self.catalogue.find(name).unload()))

    def load(self) -> None:
        self.loads.append(asyncio.ensure_future(self.catalogue.find(self.chance.choice(NAMES)).load()))
        self.loads[-1].add_done_callback(lambda load: load.cancelled() or load.exception())

    def pass_time(self) -> None:
        self.clock.pass_time(self.chance.choice([0.25, 1.0, 4.0]))

    def check(self) -> None:
        books = self.memory.residency
        assert books.reserved_bytes <= books.budget_bytes
        assert len(self.workers()) <= self.room_for, "more processes than there is room for"
        for number, end in self.sink.ends.items():
            assert number not in self.cancelled or isinstance(
                end, Unavailable | WorkerLost | ModelLoadFailed | Mapping
            )
            if isinstance(end, Unavailable):
                assert self.jobs[number][0] in self.was_unloaded, "sent away amid its work"
            if isinstance(end, Mapping) and number in self.num_requests:
                assert len(self.sink.items[number]) == self.num_requests[number]

    async def tell(self) -> None:
        deeds: list[tuple[int, Callable[[], None]]] = [
            (8, self.call),
            (8, self.become_ready),
            (8, self.answer),
            (8, self.pass_time),
            (3, self.load),
            (2, self.cancel),
            (1, self.unload),
            (1, self.refuse),
            (1, self.die),
        ]
        weights, acts = zip(*deeds, strict=True)
        for _ in range(150):
            self.chance.choices(acts, weights)[0]()
            for _ in range(self.chance.choice([0, 1, 5, 20])):
                await asyncio.sleep(0)
            self.check()
        await self.end_well()

    async def end_well(self) -> None:
        """All workers do what they should from now on: then every call is answered."""
        for _ in range(1000):
            open_jobs = set(self.jobs) - set(self.sink.ends) - self.cancelled
            if not open_jobs:
                break
            self.become_ready()
            self.answer()
            self.clock.pass_time(0.5)
            for _ in range(10):
                await asyncio.sleep(0)
            self.check()
        assert not open_jobs, f"{len(open_jobs)} calls were never answered"
        await self.catalogue.close()
        await asyncio.gather(*self.loads, return_exceptions=True)
        assert not self.workers() and self.memory.residency.reserved_bytes == 0


@pytest.mark.parametrize("part", range(4))
async def test_calls_end_once_and_memory_is_kept_to_whatever_happens(
    part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", at_once)
    monkeypatch.setattr(upkeep_module, "Worker", FakeWorker)
    monkeypatch.setattr(crashes, "BACKOFF_FIRST_S", 0.0)
    for seed in range(part * 25, part * 25 + 25):
        try:
            await Story(seed).tell()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
