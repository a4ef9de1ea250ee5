"""One served model: its state, the calls that wait for it, and the supervision of its worker.

States: unloaded → loading → ready; a worker that dies leads to restarting (with backoff) and loading again; a model that
cannot be loaded, or whose worker dies over and over, is failed until somebody asks for it again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from typing import Any

from mlxbridge.errors import BridgeError, ModelLoadFailed, Overloaded, Unavailable, WorkerLost
from mlxbridge.host.models.job import Job
from mlxbridge.host.models.store import ModelSource
from mlxbridge.host.models.worker import Worker

log = logging.getLogger(__name__)

MAX_WAITING = 1024
BACKOFF_FIRST_S = 0.25
BACKOFF_MOST_S = 30.0
STABLE_S = 60.0
CRASHES_TO_FAIL = 6
STATS_TIMEOUT_S = 1.0


class Model:
    """Owned by the catalogue; lives on the front's loop."""

    def __init__(self, source: ModelSource) -> None:
        self.source = source
        self.name = source.name
        self.state = "unloaded"
        self._details: Mapping[str, Any] = {}
        self._error: BridgeError | None = None
        self._worker: Worker | None = None
        self._waiting: dict[Job, None] = {}
        self._loaded: asyncio.Event = asyncio.Event()  # set when ready or failed
        self._supervisor: asyncio.Task[None] | None = None
        self._restarts = 0

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
                    entry.update(await asyncio.wait_for(worker.ask("stats", {}), STATS_TIMEOUT_S))
                except (TimeoutError, BridgeError):
                    entry["stats"] = "not answered"
        entry["queued"] = len(self._waiting)
        return entry

    def start(self) -> None:
        """Begin to load, unless it is loaded or loading."""
        if self._supervisor is None or self._supervisor.done():
            self._error = None
            self._loaded.clear()
            self.state = "loading"
            self._supervisor = asyncio.get_running_loop().create_task(self._supervise())

    async def load(self) -> None:
        """Load, or wait until that is done.

        Raises:
            ModelLoadFailed, ModelNotFound: it cannot be loaded.
        """
        self.start()
        await self._loaded.wait()
        if self._error is not None:
            raise self._error

    async def unload(self) -> None:
        """End the worker, and with it every call; the memory goes back to the system."""
        gone = Unavailable(f"{self.name} was unloaded")
        if self._worker is not None:
            self._worker.fail_jobs(gone)
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            await asyncio.gather(supervisor, return_exceptions=True)
        self.state = "unloaded"
        self._fail_waiting(gone)

    def submit(self, job: Job) -> None:
        """Run a guest's call, now or when the model is ready."""
        if self._worker is not None and self._worker.alive:
            self._worker.submit(job)
            return
        if self.state == "failed" and self._error is not None:
            job.fail(self._error)
            return
        self.start()
        if len(self._waiting) >= MAX_WAITING:
            job.fail(Overloaded(f"{MAX_WAITING} calls wait for {self.name} to load", retry_after=1.0))
            return
        self._waiting[job] = None

    def cancel(self, job: Job) -> None:
        """Nobody waits for the job any more."""
        if self._waiting.pop(job, job) is job and self._worker is not None:
            self._worker.cancel(job)

    # ------------------------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        """Keep a worker running until the model fails or is unloaded."""
        crashes = 0
        loop = asyncio.get_running_loop()
        while True:
            start = loop.time()
            try:
                reason = await self._run_worker()
            except asyncio.CancelledError:
                raise
            except WorkerLost as error:
                reason = f"ended while loading: {error.message}"
            except BridgeError as error:
                log.error("model %s cannot be loaded: %s", self.name, error.message)
                self._fail(error)
                return
            except OSError as error:
                self._fail(ModelLoadFailed(f"cannot start a worker process: {error}"))
                return
            crashes = 1 if loop.time() - start > STABLE_S else crashes + 1
            if crashes >= CRASHES_TO_FAIL:
                self._fail(WorkerLost(
                    f"the worker of {self.name} has ended {crashes} times in a row (it {reason}); load the model again to retry",
                    retryable=False,
                ))  # fmt: skip
                log.error("model %s: gave up after %d crashes in a row", self.name, crashes)
                return
            delay = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** (crashes - 1)) * random.uniform(0.8, 1.2)
            log.warning("worker of %s %s; starting it again in %.1f s", self.name, reason, delay)
            self.state = "restarting"
            self._loaded.clear()
            self._restarts += 1
            await asyncio.sleep(delay)

    async def _run_worker(self) -> str:
        """One worker's life, from start to end; how it ended."""
        worker = await Worker.start()
        try:
            folder = self.source.folder
            params = {"name": self.name, "kind": self.source.kind, "folder": str(folder) if folder else None}
            self._details = await worker.ask("load", params)
            self._worker = worker
            self._become_ready(worker)
            return await worker.ended()
        finally:
            self._worker = None
            await worker.stop()

    def _become_ready(self, worker: Worker) -> None:
        self.state = "ready"
        self._loaded.set()
        log.info("model %s is ready (worker %d)", self.name, worker.process.pid)
        waiting, self._waiting = self._waiting, {}
        for job in waiting:
            worker.submit(job)

    def _fail(self, error: BridgeError) -> None:
        self.state = "failed"
        self._error = error
        self._loaded.set()
        self._fail_waiting(error)

    def _fail_waiting(self, error: BridgeError) -> None:
        waiting, self._waiting = self._waiting, {}
        for job in waiting:
            job.fail(error)

    def _where(self) -> str:
        return str(self.source.folder) if self.source.kind == "folder" else self.source.kind
