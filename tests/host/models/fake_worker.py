"""A worker without a process, which a test moves by hand from one state to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from mlxbridge.errors import BridgeError, WorkerLost
from mlxbridge.host.models.job import Job
from mlxbridge.logs import current_level


class FakeWorker:
    """Stands for ``host.models.worker.Worker``; ``started`` has every one there was."""

    started: list[FakeWorker] = []

    def __init__(self, on_idle: Callable[[], object], on_return: Callable[[Job], object]) -> None:
        loop = asyncio.get_running_loop()
        self.process = SimpleNamespace(pid=len(self.started) + 1000)
        self.alive = True
        self._on_idle = on_idle
        self._on_return = on_return
        self.num_curtailed = 0
        self.log_level = current_level()
        self.params: Mapping[str, Any] = {}
        self.stats: Mapping[str, Any] = {}
        self.is_stuck = False
        self.jobs: list[Job] = []
        self.granted: list[int | None] = []
        self.num_expired = 0
        self.tell: Callable[[Any], object] = lambda value: None
        self.may_stop = asyncio.Event()
        self.may_stop.set()
        self.stopped = False
        self._loaded: asyncio.Future[Mapping[str, Any]] = loop.create_future()
        self._ended: asyncio.Future[str] = loop.create_future()

    @classmethod
    async def start(cls, on_idle: Callable[[], object], on_return: Callable[[Job], object]) -> FakeWorker:
        await asyncio.sleep(0)
        worker = cls(on_idle, on_return)
        cls.started.append(worker)
        return worker

    @classmethod
    async def number(cls, count: int) -> FakeWorker:
        """The worker that was started as the n-th, counted from 1."""
        while len(cls.started) < count:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        return cls.started[count - 1]

    @classmethod
    async def of(cls, model: str) -> FakeWorker:
        """The worker that a model has now, once it has been asked to load."""
        async with asyncio.timeout(10):
            while True:
                for worker in cls.started:
                    if worker.params.get("name") == model and not worker.stopped:
                        return worker
                await asyncio.sleep(0)

    def become_ready(self) -> None:
        self._loaded.set_result({"architecture": "Fake"})

    def refuse(self, error: BridgeError) -> None:
        self._loaded.set_exception(error)

    def answer(self, job: Job, **result: int) -> None:
        """End a job well."""
        self.jobs.remove(job)
        job.finish({"model": "fake", **result})
        if job.is_unfinished:
            self._on_return(job)
        self._note_end()

    def die(self, reason: str = "was killed by SIGKILL") -> None:
        self.alive = False
        self.fail_jobs(WorkerLost("the process ended under the call"))
        if not self._loaded.done():
            self._loaded.set_exception(WorkerLost("the process ended under the call"))
            self._loaded.exception()
        self._ended.set_result(reason)

    def _note_end(self) -> None:
        if not self.jobs:
            self._on_idle()

    # -- what a model uses -------------------------------------------------------------------------------------

    async def count(self) -> Mapping[str, Any]:
        if self.is_stuck:
            raise TimeoutError
        return self.stats

    async def ask(
        self, method: str, params: Mapping[str, Any], on_item: Callable[[Any], object] = lambda item: None
    ) -> Mapping[str, Any]:
        assert method == "load"
        self.params = params
        self.tell = on_item
        return await asyncio.shield(self._loaded)

    @property
    def is_loaded(self) -> bool:
        return self._loaded.done()

    @property
    def num_jobs(self) -> int:
        return len(self.jobs)

    async def ended(self) -> str:
        return await asyncio.shield(self._ended)

    async def stop(self) -> None:
        await self.may_stop.wait()
        self.alive = False
        self.stopped = True

    def submit(self, job: Job) -> None:
        assert self.alive
        self.jobs.append(job)

    def grant(self, job: Job) -> None:
        self.granted.append(job.items)

    def cancel(self, job: Job) -> None:
        self.jobs.remove(job)
        self._note_end()

    def set_log(self) -> None:
        self.log_level = current_level()

    def curtail(self) -> None:
        self.num_curtailed += 1

    def hold(self, job: Job) -> None:
        assert job.is_held

    def go_on(self, job: Job) -> None:
        assert not job.is_held

    def fail_held(self, error: BridgeError) -> None:
        for job in [job for job in self.jobs if job.is_held]:
            self.cancel(job)
            job.fail(error)

    def fail_jobs(self, error: BridgeError) -> None:
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job.fail(error)
        if jobs:
            self._note_end()
