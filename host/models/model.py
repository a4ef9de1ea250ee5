"""One served model: its state, the calls that wait for it, and the supervision of its worker.

States: unloaded → loading → ready; a worker that dies leads to restarting (with backoff) and loading again; a model that
cannot be loaded, or whose worker dies over and over, is failed until somebody asks for it again. Unloading leads from
anywhere to unloaded; calls that come meanwhile wait for its end and then load the model again.

Two tasks at most, never one of a kind twice: the supervisor, which alone starts workers, and the unloading, which ends
the supervisor. Guests wait for them under ``shield``, so that one who gives up takes nothing with him.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from mlxbridge.errors import BridgeError, InternalError, ModelLoadFailed, Overloaded, Unavailable, WorkerLost
from mlxbridge.host.models.backlog import Backlog
from mlxbridge.host.models.job import Job
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.worker import Worker, is_late

log = logging.getLogger(__name__)

BACKOFF_FIRST_S = 0.25
BACKOFF_MOST_S = 30.0
STABLE_S = 60.0
CRASHES_TO_FAIL = 6
STATS_TIMEOUT_S = 1.0

Progress = Callable[[Mapping[str, Any]], object]
"""Takes what a worker tells while it loads, such as ``{"stage": "loading"}``."""


class Model:
    """Owned by the catalogue; lives on the front's loop."""

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self.name = settings.name
        self.state = "unloaded"
        self._details: Mapping[str, Any] = {}
        self._error: BridgeError | None = None
        self._worker: Worker | None = None  # from its start until its process has ended
        self._backlog = Backlog(settings.name)
        self._attempt: asyncio.Future[None] | None = None  # to be ready; of the latest load or restart
        self._watchers: set[Progress] = set()
        self._told: Mapping[str, Any] | None = None  # the latest progress of the attempt
        self._ready_at: float | None = None  # of the latest worker
        self._supervisor: asyncio.Task[None] | None = None
        self._unloading: asyncio.Task[None] | None = None
        self._restarts = 0
        self._num_expired = 0  # while no worker had them, or with workers that have ended

    def describe(self) -> dict[str, Any]:
        """Its map in ``models``, ``load`` and ``unload`` (SPEC.md §10)."""
        entry: dict[str, Any] = {
            "name": self.name,
            "state": self.state,
            "source": self._where(),
            **self._details,
        }
        if self._restarts:
            entry["restarts"] = self._restarts
        if self._error is not None:
            entry["error"] = self._error.message
        return entry

    async def report(self) -> dict[str, Any]:
        """As ``describe``, with the engine's counters and the worker's process id."""
        entry = self.describe()
        worker = self._worker
        if worker is not None:
            entry["pid"] = worker.process.pid
            if self.state == "ready":
                try:
                    async with asyncio.timeout(STATS_TIMEOUT_S):
                        entry.update(await worker.ask("stats", {}))
                except (TimeoutError, BridgeError):
                    entry["stats"] = "not answered"
        # The engine's own number lacks those whose end the front, or the guest, told it first.
        entry["expired_total"] = self._num_expired + (worker.num_expired if worker is not None else 0)
        entry["queued"] = len(self._backlog)
        return entry

    def start(self) -> None:
        """Begin to load, unless it is loaded, loading, or being unloaded."""
        if self.state in ("unloaded", "failed"):
            self._error = None
            self.state = "loading"
            self._attempt = asyncio.get_running_loop().create_future()
            self._supervisor = asyncio.get_running_loop().create_task(self._supervise())

    async def load(self, progress: Progress | None = None) -> None:
        """Load, or wait until that is done. Cancelling it lets the load go on.

        Raises:
            ModelLoadFailed, ModelNotFound, WorkerLost: it cannot be loaded.
            Unavailable: it was unloaded meanwhile.
        """
        while self._unloading is not None:
            await asyncio.shield(self._unloading)
        self.start()
        assert self._attempt is not None
        if progress is None or self._attempt.done():
            return await asyncio.shield(self._attempt)
        if self._told is not None:
            progress(self._told)
        self._watchers.add(progress)
        try:
            await asyncio.shield(self._attempt)
        finally:
            self._watchers.discard(progress)

    async def unload(self) -> None:
        """End the worker, and with it every call; the memory goes back to the system. Cancelling it lets that go on."""
        if self._unloading is None and self.state != "unloaded":
            self._begin_unload()
        if self._unloading is not None:
            await asyncio.shield(self._unloading)

    def submit(self, job: Job) -> None:
        """Run a guest's call, now or when the model is ready."""
        if self.state == "ready" and self._worker is not None and self._worker.alive:
            self._worker.submit(job)
        elif self.state == "failed" and self._error is not None:
            job.fail(self._error)
        else:
            try:
                self._backlog.add(job)
            except Overloaded as error:
                job.fail(error)
            else:
                self.start()

    def grant(self, job: Job, items: int) -> None:
        """The guest's credit for items of a job is so much, in all."""
        if job.items is not None and items > job.items:
            job.items = items
            if self._worker is not None:
                self._worker.grant(job)

    def cancel(self, job: Job) -> None:
        """Nobody waits for the job any more."""
        if self._backlog.remove(job):
            self._num_expired += is_late(job.origin)
        elif self._worker is not None:
            self._worker.cancel(job)

    # -- unloading ---------------------------------------------------------------------------------------------

    def _begin_unload(self) -> None:
        gone = Unavailable(f"{self.name} was unloaded")
        self.state = "unloading"
        self._settle(gone)
        self._backlog.fail(gone)
        if self._worker is not None:
            self._worker.fail_jobs(gone)
        self._unloading = asyncio.get_running_loop().create_task(self._unload())

    async def _unload(self) -> None:
        try:
            if self._supervisor is not None:
                self._supervisor.cancel()
                await asyncio.wait({self._supervisor})
            if self._worker is not None:  # the supervisor was just stopping it, and was cancelled there
                await self._worker.stop()
        finally:
            self._worker = self._error = self._unloading = None
            self.state = "unloaded"
        if self._backlog:  # calls that came meanwhile
            self.start()

    # -- supervision -------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        """Keep a worker running until the model fails or is unloaded."""
        try:
            await self._keep_running()
        except BridgeError as error:
            self._fail(error)
        except OSError as error:
            self._fail(ModelLoadFailed(f"cannot start a worker process: {error}"))
        except Exception as error:
            log.exception("the supervision of model %s broke", self.name)
            self._fail(InternalError(f"{type(error).__name__}: {error}"))

    async def _keep_running(self) -> None:
        crashes = 0
        while True:
            reason = await self._run_worker()
            crashes = 1 if self._was_stable() else crashes + 1
            if crashes >= CRASHES_TO_FAIL:
                raise WorkerLost(
                    f"the worker of {self.name} has ended {crashes} times in a row (it {reason}); load the model again to retry",
                    retryable=False,
                )
            delay = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** (crashes - 1)) * random.uniform(0.8, 1.2)
            log.warning("worker of %s %s; starting it again in %.1f s", self.name, reason, delay)
            self.state = "restarting"
            self._restarts += 1
            if self._attempt is None or self._attempt.done():
                self._attempt = asyncio.get_running_loop().create_future()
            await asyncio.sleep(delay)

    def _was_stable(self) -> bool:
        """Whether the latest worker was ready for long; the time it took to load says nothing."""
        return self._ready_at is not None and asyncio.get_running_loop().time() - self._ready_at > STABLE_S

    async def _run_worker(self) -> str:
        """One worker's life, from start to end; how it ended."""
        self._ready_at = self._told = None
        self._worker = worker = await Worker.start()
        settings = self.settings
        try:
            params = {
                **settings.source.to_wire(),
                "name": self.name,
                "draft": None if settings.draft is None else settings.draft.to_wire(),
                "limits": asdict(settings.limits),
            }
            try:
                self._details = await worker.ask("load", params, self._tell)
            except WorkerLost:
                return f"{await worker.ended()} while loading"
            self._become_ready(worker)
            return await worker.ended()
        finally:
            await worker.stop()
            self._num_expired += worker.num_expired
            self._worker = None

    def _tell(self, progress: Mapping[str, Any]) -> None:
        self._told = progress
        for watcher in list(self._watchers):
            watcher(progress)

    def _become_ready(self, worker: Worker) -> None:
        self.state = "ready"
        self._ready_at = asyncio.get_running_loop().time()
        self._settle(None)
        log.info("model %s is ready (worker %d)", self.name, worker.process.pid)
        self._warn_of_memory()
        for job in self._backlog.take():
            worker.submit(job)

    def _warn_of_memory(self) -> None:
        limits = self.settings.limits
        given = (limits.kv_bytes or 0) + (limits.prefix_cache_bytes or 0)
        device = self._details.get("device_bytes", given)
        if given > device:
            log.warning(
                "model %s may take %.1f GB by --kv-memory and --prefix-cache, but its device has %.1f GB for it",
                self.name,
                given / 2**30,
                device / 2**30,
            )

    def _fail(self, error: BridgeError) -> None:
        log.error("model %s has failed: %s", self.name, error.message)
        self.state = "failed"
        self._error = error
        self._settle(error)
        self._backlog.fail(error)

    def _settle(self, error: BridgeError | None) -> None:
        """Tell those who wait in ``load`` how the attempt ended."""
        self._told = None
        attempt = self._attempt
        if attempt is None or attempt.done():
            return
        if error is None:
            attempt.set_result(None)
        else:
            attempt.set_exception(error)
            attempt.exception()  # retrieved, so that nobody is warned if nobody waits

    def _where(self) -> str:
        source = self.settings.source
        return str(source.folder) if source.kind == "folder" else source.kind
