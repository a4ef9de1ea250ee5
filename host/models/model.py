"""One served model: its state, the calls that wait for it, and the supervision of its worker.

::

    unloaded ─► loading ─► waiting ─► loading ─► ready ─► draining ─► unloading ─► unloaded
                 files      for room   weights    │ ▲
                                                  ▼ │ a worker that dies, with backoff
                                               restarting

A model that cannot be loaded is failed until a call comes after a pause; one whose worker dies over and over, until
somebody asks to load it. One that has to make way is draining: it ends the calls that its worker has. A guest's ``unload``
leads from anywhere to unloaded, and ends them. Calls that come meanwhile wait, and then load the model again.

Two tasks at most, never one of a kind twice: the supervisor, which gets files and room and then has a worker running
(``Upkeep``), and the unloading, which ends the supervisor. Guests wait for them under ``shield``, so that one who gives up
takes nothing with him.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from mlxbridge.errors import BridgeError, InternalError, ModelLoadFailed, Overloaded, Unavailable
from mlxbridge.host.keep_alive import parse_keep_alive
from mlxbridge.host.models.attempt import Attempt, Progress
from mlxbridge.host.models.backlog import Backlog
from mlxbridge.host.models.errand import fetch_files
from mlxbridge.host.models.failures import Failures
from mlxbridge.host.models.job import Job
from mlxbridge.host.models.kind import is_for, kind_of, refuse_method
from mlxbridge.host.models.lease import NoRoom
from mlxbridge.host.models.memory import Memory
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import ModelSource
from mlxbridge.host.models.upkeep import Upkeep
from mlxbridge.host.models.worker import Worker
from mlxbridge.logs import fields

log = logging.getLogger(__name__)

STATS_TIMEOUT_S = 1.0


class Model:
    """Owned by the catalogue; lives on the front's loop.

    Args:
        settings: what is to be run, and how.
        memory: what it shares with others.
        on_state: called with it whenever its state has changed.
    """

    def __init__(
        self,
        settings: ModelSettings,
        memory: Memory,
        on_state: Callable[[Model], object] = lambda model: None,
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self._state = "unloaded"
        self._on_state = on_state
        self._backlog = Backlog(settings.name)
        self._attempt: Attempt | None = None  # the latest to be ready
        self._failures = Failures(settings.name)
        self._now = memory.now
        self._upkeep = Upkeep(settings.name, memory.now, self._on_idle, self._backlog.put_back)
        self._lease = memory.lease(settings, self._make_way)
        self._is_busy = False
        self._reason = ""  # of the latest draining or unloading, for the log
        self._quiet = asyncio.Event()  # set while it is not busy
        self._quiet.set()
        self._supervisor: asyncio.Task[None] | None = None
        self._unloading: asyncio.Task[None] | None = None
        self._num_expired = 0  # calls that no worker had

    @property
    def state(self) -> str:
        """See above."""
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._on_state(self)

    @property
    def _worker(self) -> Worker | None:
        return self._upkeep.worker

    def describe(self) -> dict[str, Any]:
        """Its map in ``models``, ``load`` and ``unload`` (SPEC.md §10)."""
        source = self.settings.source
        entry: dict[str, Any] = {
            "name": self.name,
            "state": self.state,
            "source": str(source.folder) if source.kind == "folder" else source.kind,
            "aliases": list(self.settings.aliases),
            "adapters": list(self.settings.adapters),
            **self._upkeep.details,
            **self._lease.describe(),
            **self._upkeep.crashes.describe(),
        }
        if self._failures.error is not None:
            entry["error"] = self._failures.error.message
        return entry

    def describe_state(self) -> dict[str, Any]:
        """Its map in a ``model`` event (SPEC.md §10)."""
        entry: dict[str, Any] = {"model": self.name, "state": self.state}
        if self._failures.error is not None:
            entry["reason"] = self._failures.error.message
        elif self.state == "restarting":
            entry["reason"] = self._upkeep.crashes.describe()["last_crash"]
        return entry

    async def report(self) -> dict[str, Any]:
        """As ``describe``, with the engine's counters and the worker's process id."""
        entry = self.describe()
        worker = self._worker
        if worker is not None:
            entry["pid"] = worker.process.pid
            if self.state in ("ready", "draining"):
                try:
                    async with asyncio.timeout(STATS_TIMEOUT_S):
                        entry.update(await worker.count())
                except (TimeoutError, BridgeError):
                    entry["stats"] = "not answered"
        # The engine's own number lacks those whose end the front, or the guest, told it first.
        entry["expired_total"] = self._num_expired + self._upkeep.num_expired
        entry["queued"] = len(self._backlog)
        entry["calls"] = self._upkeep.num_jobs
        return entry

    def start(self) -> None:
        """Begin to load, unless it is loaded, loading, or about to be unloaded; one that has failed has all its chances."""
        if self.state == "failed":
            self._upkeep.crashes.forget()
            self._failures.forget()
        self._start()

    def _start(self) -> None:
        if self.state in ("unloaded", "failed"):
            self._failures.begin()
            self.state = "loading"
            self._begin_attempt().forget()
            self._supervisor = asyncio.get_running_loop().create_task(self._supervise())

    async def load(self, progress: Progress | None = None, *, keep_alive: Any = None) -> None:
        """Load, or wait until that is done. Cancelling it lets the load go on, unless that waits for room and for nobody else.

        Args:
            progress: takes what is told meanwhile.
            keep_alive: see ``keep_alive.parse_keep_alive``; None: as it was.

        Raises:
            ModelLoadFailed, ModelNotFound, WorkerLost: it cannot be loaded.
            Unavailable: it was unloaded meanwhile.
        """
        is_ready = self.state == "ready"  # before it may go for that
        if keep_alive is not None:
            self._lease.keep_alive(parse_keep_alive(keep_alive))
        if is_ready:
            return
        attempt = self._begin_attempt()
        self.start()  # at once, or when it has been unloaded
        try:
            await attempt.wait(progress)
        finally:
            self._withdraw_if_unwanted()

    async def unload(self, reason: str = "a guest asked for it") -> None:
        """End the worker, and with it every call; the memory goes back to the system. Cancelling it lets that go on.

        Args:
            reason: for the log.
        """
        if self.state != "unloaded" and self._unloading is None:
            gone = Unavailable(f"{self.name} was unloaded")
            if self._attempt is not None:
                self._attempt.fail(gone)
            self._backlog.fail(gone)
            self._upkeep.crashes.forget()
            self._lease.forget_keep_alive()
            self._reason = reason
            self._begin_unload(gone)
            self._note_work()  # the calls that waited have ended
        if self._unloading is not None:
            await asyncio.shield(self._unloading)

    def reconfigure(self, settings: ModelSettings) -> bool:
        """Run it as these settings say, which have its name; whether that takes loading it again.

        In that case it drains, and is loaded when it is next asked for, or at once by calls that wait.
        """
        before, self.settings = self.settings, settings
        self._lease.reconfigure(settings)
        is_same = settings.with_same_worker(before)
        if not is_same:
            self._upkeep.details = {}  # they are of what was loaded
        if self.state == "failed":  # what has failed may now be right
            self._failures.forget()
            self._upkeep.crashes.forget()
            self.state = "unloaded"
            return True
        if is_same or self.state in ("unloaded", "unloading"):
            return False
        self._make_way("its configuration has changed")
        return True

    async def retire(self, drain_s: float) -> None:
        """End it, and its lease, once its calls have ended, after ``drain_s`` seconds at the latest; nobody asks any more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await self._quiet.wait()
        await self.unload("it is served no longer")
        self._lease.end()

    def submit(self, job: Job) -> None:
        """Run a guest's call, now or when the model is ready."""
        keep_alive = job.params.get("keep_alive")
        if self.state == "ready" and self._worker is not None and self._worker.alive:
            self._worker.submit(job)
        elif (error := self._refusal(job)) is not None:
            job.fail(error)
        else:
            try:
                self._backlog.add(job)
            except Overloaded as overloaded:
                job.fail(overloaded)
            else:
                self._start()
        self._note_work()
        if keep_alive is not None and not job.ended:  # now that it has work, lest it go at once
            self._lease.keep_alive(parse_keep_alive(keep_alive))

    def _refusal(self, job: Job) -> BridgeError | None:
        """Why the model need not be loaded for a job, if so."""
        folder = self.settings.source.folder
        if folder is not None and not is_for(job.method, kind := kind_of(folder)):
            return refuse_method(job.method, kind, self.name)
        return self._failures.refusal(self._now())

    def set_log(self) -> None:
        """Have its process log as this one does now."""
        if self._worker is not None:
            self._worker.set_log()

    def grant(self, job: Job, items: int) -> None:
        """The guest's credit for items of a job is so much, in all."""
        if job.items is not None and items > job.items:
            job.items = items
            if self._worker is not None:
                self._worker.grant(job)

    def cancel(self, job: Job) -> None:
        """Nobody waits for the job any more."""
        if self._backlog.remove(job):
            self._num_expired += job.is_late
            self._note_work()
            self._withdraw_if_unwanted()
        elif self._worker is not None:
            self._worker.cancel(job)

    def hold(self, job: Job) -> bool:
        """Spend nothing on a job whose guest is away; false if it cannot wait, and has to be cancelled."""
        if not job.can_be_held or (self.state == "draining" and job not in self._backlog):
            return False
        job.is_held = True
        if self._worker is not None:
            self._worker.note_held(job)
        return True

    def go_on(self, job: Job) -> None:
        """The guest of a job that is held has come back."""
        job.is_held = False
        if self._worker is not None:
            self._worker.note_held(job)

    # -- who waits for it --------------------------------------------------------------------------------------

    @property
    def _is_wanted(self) -> bool:
        return bool(self._backlog) or (
            self._attempt is not None and not self._attempt.is_over and self._attempt.num_waiting > 0
        )

    def _begin_attempt(self) -> Attempt:
        """The attempt that is under way, or a new one."""
        if self._attempt is None or self._attempt.is_over:
            self._attempt = Attempt()
        return self._attempt

    def _withdraw_if_unwanted(self) -> None:
        """Let nobody make way for a model that nobody waits for any more."""
        if self.state == "waiting" and not self._is_wanted and self._unloading is None:
            self._lease.forget_keep_alive()
            self._reason = "nobody waits for it any more"
            self._begin_unload(Unavailable(f"nobody waits for {self.name}"))

    def _note_work(self) -> None:
        is_busy = self._upkeep.num_jobs > 0 or len(self._backlog) > 0
        if is_busy != self._is_busy:
            self._set_busy(is_busy)
            self._lease.set_busy(is_busy)

    def _set_busy(self, is_busy: bool) -> None:
        self._is_busy = is_busy
        if is_busy:
            self._quiet.clear()
        else:
            self._quiet.set()

    # -- leaving -----------------------------------------------------------------------------------------------

    def _make_way(self, reason: str) -> None:
        """Others need its room, nobody has used it for long, or it is to run otherwise."""
        if self._unloading is not None:
            return
        self._reason = reason
        if self._upkeep.num_jobs:
            self._log_move("ends its calls, then it is unloaded")
        self._lease.forget_keep_alive()
        self.state = "draining"
        if self._worker is not None and self._worker.alive:
            self._worker.fail_held(Unavailable(f"{self.name} was unloaded while the guest was away"))
            self._worker.curtail()
        self._leave_if_drained()

    def _on_idle(self) -> None:
        """The last call that the worker had has ended."""
        self._note_work()
        self._leave_if_drained()

    def _log_move(self, what: str) -> None:
        log.info(
            "model %s %s: %s",
            self.name,
            what,
            self._reason,
            extra=fields(model=self.name, reason=self._reason),
        )

    def _leave_if_drained(self) -> None:
        if self._unloading is not None or self.state != "draining":
            return
        if self._upkeep.num_jobs == 0:
            self._begin_unload(Unavailable(f"{self.name} was unloaded"))

    def _begin_unload(self, gone: Unavailable) -> None:
        self.state = "unloading"
        if self._supervisor is not None:
            self._supervisor.cancel()  # now, lest it hand calls to a worker that has just become ready
        self._unloading = asyncio.get_running_loop().create_task(self._unload())
        if self._worker is not None:
            self._worker.fail_jobs(gone)

    async def _unload(self) -> None:
        try:
            if self._supervisor is not None:
                await asyncio.wait({self._supervisor})
            await self._upkeep.stop()  # the supervisor may just have been doing that, and was cancelled there
        finally:
            self._unloading = None
            self._failures.forget()
            self.state = "unloaded"
            self._log_move("is unloaded")
            self._lease.release()
        if self._is_wanted:  # by calls that came meanwhile
            self.start()

    # -- supervision -------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        """Get room, and keep a worker running until the model fails or is unloaded."""
        try:
            sources = [await fetch_files(source, self._tell) for source in self.settings.sources]
            share = await self._take_room(sources)
            await self._upkeep.run(
                lambda: self.settings.load_params(sources, share),
                self._tell,
                self._become_ready,
                self._restart,
            )
        except NoRoom as error:
            log.info("model %s is not loaded yet: %s", self.name, error, extra=fields(model=self.name))
            self.state = "unloaded"
        except BridgeError as error:
            self._fail(error)
        except OSError as error:
            self._fail(ModelLoadFailed(f"cannot start a worker process: {error}"))
        except Exception as error:
            log.exception("the supervision of model %s broke", self.name, extra=fields(model=self.name))
            self._fail(InternalError(f"{type(error).__name__}: {error}"))

    async def _take_room(self, sources: list[ModelSource]) -> int | None:
        """Bytes that it may take, once it has them; None: as many as there are."""
        folders = [source.folder for source in sources if source.folder is not None]
        share = await self._lease.take(folders, is_wanted=lambda: self._is_wanted, on_wait=self._wait)
        self.state = "loading"
        return share

    def _wait(self) -> None:
        self.state = "waiting"
        self._reason = "others have the memory"
        self._log_move("waits for room")
        self._tell({"stage": "waiting"})

    def _tell(self, progress: Mapping[str, Any]) -> None:
        if progress.get("bytes_done") == 0:
            log.info("model %s: downloading %s", self.name, progress["model"])
        if self._attempt is not None:
            self._attempt.tell(progress)

    def _become_ready(self, worker: Worker) -> None:
        self._failures.forget()
        self.state = "ready"
        if self._attempt is not None:
            self._attempt.succeed()
        log.info(
            "model %s is ready (worker %d)", self.name, worker.process.pid, extra=fields(model=self.name)
        )
        for job in self._backlog.take():
            worker.submit(job)
        self._set_busy(worker.num_jobs > 0)
        self._lease.begin_turn(is_busy=self._is_busy)

    def _restart(self) -> None:
        self.state = "restarting"
        self._begin_attempt().forget()

    def _fail(self, error: BridgeError) -> None:
        log.error(
            "model %s has failed: %s",
            self.name,
            error.message,
            extra=fields(model=self.name, code=error.code),
        )
        now = self._now()
        self._failures.note(error, now, is_final=self._upkeep.crashes.is_loop)
        self.state = "failed"
        self._lease.forget_keep_alive()
        self._lease.release()
        if self._attempt is not None:
            self._attempt.fail(error)
        self._backlog.fail(self._failures.refusal(now) or error)
        self._note_work()
