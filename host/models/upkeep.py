"""A model's workers, one after the other: each is started, told to load, and followed by the next one when it dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from mlxbridge.errors import WorkerLost
from mlxbridge.host.models.attempt import Progress
from mlxbridge.host.models.crashes import Crashes
from mlxbridge.host.models.job import Job
from mlxbridge.host.models.worker import Worker
from mlxbridge.logs import fields

log = logging.getLogger(__name__)


class Upkeep:
    """Owns the worker, and the count of those that died.

    Args:
        name: the model's.
        now: tells seconds.
        on_idle: called when the last of the guests' calls has ended that a worker had.
        on_return: called for each that was curtailed, before that.

    Attributes:
        worker: from its start until its process has ended.
        crashes: of workers.
        details: what the latest has told of the model that it loaded.
    """

    def __init__(
        self,
        name: str,
        now: Callable[[], float],
        on_idle: Callable[[], object],
        on_return: Callable[[Job], object],
    ) -> None:
        self.worker: Worker | None = None
        self.crashes = Crashes(name)
        self.details: Mapping[str, Any] = {}
        self._name = name
        self._now = now
        self._on_idle = on_idle
        self._on_return = on_return
        self._ready_at: float | None = None  # of the latest worker
        self._num_expired = 0  # with workers that have ended

    @property
    def num_jobs(self) -> int:
        """Guests' calls that the worker has."""
        return 0 if self.worker is None else self.worker.num_jobs

    @property
    def num_expired(self) -> int:
        """Those that ended with a worker because their deadline had passed."""
        return self._num_expired + (0 if self.worker is None else self.worker.num_expired)

    async def run(
        self,
        params: Callable[[], Mapping[str, Any]],
        tell: Progress,
        on_ready: Callable[[Worker], object],
        on_restart: Callable[[], object],
    ) -> NoReturn:
        """Keep a worker running. Cancelling it ends that; ``stop`` makes sure.

        Args:
            params: of ``load``.
            tell: takes what is told meanwhile.
            on_ready: called with each worker that has loaded the model.
            on_restart: called when one has died, before the pause until the next one is started.

        Raises:
            WorkerLost: one too many has died.
            BridgeError: the model cannot be loaded.
            OSError: no process can be started.
        """
        while True:
            reason = await self._run_worker(params, tell, on_ready)
            ready_for_s = None if self._ready_at is None else self._now() - self._ready_at
            delay_s = self.crashes.note(reason, ready_for_s=ready_for_s)
            log.warning(
                "worker of %s %s; starting it again in %.1f s",
                self._name,
                reason,
                delay_s,
                extra=fields(model=self._name),
            )
            on_restart()
            await asyncio.sleep(delay_s)

    async def stop(self) -> None:
        """End a process whose end ``run`` was waiting for when it was cancelled."""
        try:
            if self.worker is not None:
                await self.worker.stop()
        finally:
            self.worker = None

    async def _run_worker(
        self, params: Callable[[], Mapping[str, Any]], tell: Progress, on_ready: Callable[[Worker], object]
    ) -> str:
        """One worker's life, from start to end; how it ended."""
        self._ready_at = None
        self.worker = worker = await Worker.start(self._on_idle, self._on_return)
        try:
            try:
                self.details = await worker.ask("load", params(), tell)
            except WorkerLost:
                return f"{await worker.ended()} while loading"
            if worker.alive:  # it may have died right after
                self._ready_at = self._now()
                on_ready(worker)
            return await worker.ended()
        finally:
            await worker.stop()
            self._num_expired += worker.num_expired
            self.worker = None
