"""A worker process, seen from the front: starts it, speaks to it, routes its answers, notices its end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mlxbridge import __version__
from mlxbridge.errors import (
    BridgeError,
    ConnectionLost,
    DeadlineExceeded,
    Overloaded,
    TransportError,
    WorkerLost,
)
from mlxbridge.host.models.job import Job
from mlxbridge.host.models.pieces import PieceMemory
from mlxbridge.host.models.process import how_it_ended, reap, spawn
from mlxbridge.host.models.questions import Item, Questions
from mlxbridge.host.models.step import pass_on
from mlxbridge.logs import current_format, current_level
from mlxbridge.protocol.events import (
    Closed,
    ErrorReceived,
    ItemReceived,
    PieceReceived,
    Ready,
    ResultReceived,
    TokensReceived,
)
from mlxbridge.protocol.frames import HEADER_BYTES
from mlxbridge.protocol.guest import GuestConnection
from mlxbridge.protocol.handshake import NONCE_BYTES
from mlxbridge.protocol.limits import LARGE_PIECE_BYTES, MIB, Limits, Windows
from mlxbridge.transport.driver import Driver

PAYLOAD_WINDOW_BYTES = 16 * MIB
"""What the front holds at most of a call's payload that the guest has not taken; the rest waits in the worker.

So a payload up to this size leaves the worker at once, and does not wait for the model's steps between which the worker looks for
credit.
"""

# Items the front passes on at once and holds back, if need be, towards the guest: they need no credit here.
_WINDOWS = Windows(items=1 << 48, bytes=PAYLOAD_WINDOW_BYTES)
_LIMITS = Limits(max_unacked_frames=1024, max_piece_bytes=LARGE_PIECE_BYTES)
_OVERLOADED_RETRY_S = 1.0
MAX_UNSENT_BYTES = 64 * 1024 * 1024


class Worker:
    """One process. Made by ``start``; ends when the process does, or by ``stop``."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        on_idle: Callable[[], object] = lambda: None,
        on_return: Callable[[Job], object] = lambda job: None,
    ) -> None:
        self.process = process
        self._on_idle = on_idle
        self._on_return = on_return
        self._connection = GuestConnection(
            software=f"mlxbridge-host/{__version__}",
            nonce=os.urandom(NONCE_BYTES),
            limits=_LIMITS,
            windows=_WINDOWS,
            piecewise=True,
            allocate=PieceMemory(LARGE_PIECE_BYTES + HEADER_BYTES).allocate,
        )
        self._driver = Driver(self._connection, self._on_events, self._on_lost)
        self._questions = Questions(self._connection, self._driver.flush_soon)
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs: dict[int, Job] = {}
        self._unsaid: dict[int, None] = {}  # jobs of which it does not know yet whether they are held
        self.num_expired = 0  # jobs that ended because their deadline had passed
        self._fault = ""  # what ended the link, if it was not the process's end

    @classmethod
    async def start(
        cls,
        on_idle: Callable[[], object] = lambda: None,
        on_return: Callable[[Job], object] = lambda job: None,
    ) -> Worker:
        """Start a process and link to it.

        Args:
            on_idle: called when the last of the guests' calls has ended.
            on_return: called for each that was curtailed, before that.

        Raises:
            OSError: the system refuses.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                worker = cls(await spawn(theirs.fileno()), on_idle, on_return)
        except BaseException:
            ours.close()
            raise
        try:
            await asyncio.get_running_loop().create_connection(lambda: worker._driver, sock=ours)
        except BaseException:
            ours.close()
            await worker.stop()
            raise
        return worker

    @property
    def alive(self) -> bool:
        """Whether calls can be passed on; false from the moment the link is lost, before the process is reaped."""
        return self._connection.ready

    @property
    def num_jobs(self) -> int:
        """Guests' calls that have not ended, those that wait in the process among them."""
        return len(self._jobs)

    async def ask(
        self, method: str, params: Mapping[str, Any], on_item: Item | None = None
    ) -> Mapping[str, Any]:
        """A call of the front's own, made once the process has shaken hands.

        Raises:
            WorkerLost: the process died meanwhile.
            RemoteError: its answer.
        """
        return await self._questions.ask(method, params, on_item)

    async def count(self) -> Mapping[str, Any]:
        """Its counters; who asks while it has not answered shares that answer, lest looks take the place of calls.

        Raises:
            WorkerLost, RemoteError: as ``ask``.
        """
        return await self._questions.count()

    def submit(self, job: Job) -> None:
        """Pass a guest's call on. A call that cannot be passed on fails."""
        if not self._connection.can_open or self._connection.unsent_bytes > MAX_UNSENT_BYTES:
            job.fail(Overloaded("too many calls for this model", retry_after=_OVERLOADED_RETRY_S))
            return
        try:
            number = self._connection.open_call(
                job.method,
                job.for_worker(),
                deadline_ms=job.time_left_ms,
                windows=None if job.items_left is None else Windows(items=job.items_left, bytes=0),
            )
        except BridgeError as error:
            job.fail(error)
            return
        job.worker_call = number
        self._jobs[number] = job
        if job.is_held:
            self.note_held(job)
        self._driver.flush_soon()

    def grant(self, job: Job) -> None:
        """Pass the guest's credit for items on."""
        if job.items_left is not None and job.worker_call is not None:
            self._connection.grant(job.worker_call, items=job.items_left)
            self._driver.flush_soon()

    def cancel(self, job: Job) -> None:
        """Nobody waits for the job any more; its slot is free before the worker's next step."""
        if job.worker_call is not None and self._jobs.get(job.worker_call) is job:
            del self._jobs[job.worker_call]
            self.num_expired += job.is_late
            self._connection.cancel(job.worker_call)
            self._driver.flush()
            self._note_end()

    def set_log(self) -> None:
        """Have the process log as this one does now; one that is being started is told as soon as it listens."""
        if self._connection.can_open:
            self._connection.open_call("log", {"level": current_level(), "format": current_format()})
            self._driver.flush_soon()

    def note_held(self, job: Job) -> None:
        """Tell the process whether it is to spend anything on a job: its guest is away, or has come back."""
        if job.worker_call is not None:
            self._unsaid[job.worker_call] = None
            self._say_held()

    def fail_held(self, error: BridgeError) -> None:
        """End the calls whose guests are away."""
        for job in [job for job in self._jobs.values() if job.is_held]:
            self.cancel(job)
            job.fail(error)

    def curtail(self) -> None:
        """Let calls of many requests end with those that have been begun; the others are for another worker."""
        for job in [job for job in self._jobs.values() if job.can_be_curtailed]:
            self._say("curtail", job)

    def fail_jobs(self, error: BridgeError) -> None:
        """End every guest's call with ``error``."""
        jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            job.fail(error)
        if jobs:
            self._note_end()

    async def ended(self) -> str:
        """Wait for the process's end; how it came, in words."""
        await asyncio.shield(self._lost)
        if not await reap(self.process):
            return f"lost its link and had to be killed{self._fault}"
        return how_it_ended(self.process, self._fault)

    async def stop(self) -> None:
        """Let the process end: it does when its socket closes, unless it is stuck. Twice is fine."""
        self._driver.abort()
        await reap(self.process)

    # ------------------------------------------------------------------------------------------------------------

    def _say(self, method: str, job: Job) -> None:
        """Tell the process about a job that it has; a call of its own, whose answer says nothing."""
        number = job.worker_call
        if number is not None and self._jobs.get(number) is job and self._connection.can_open:
            self._connection.open_call(method, {"call": number})
            self._driver.flush()

    def _say_held(self) -> None:
        """Tell the process which jobs are held, now or once a call has ended: one that is not told to go on hangs."""
        while self._unsaid and self._connection.can_open:
            number, _ = self._unsaid.popitem()
            if (job := self._jobs.get(number)) is not None:
                self._say("hold" if job.is_held else "go_on", job)

    def _on_events(self) -> None:
        for event in self._connection.events():
            if type(event) is TokensReceived:
                pass_on(event, self._jobs)
            elif isinstance(event, ResultReceived | ErrorReceived):
                self._end(event)
            elif isinstance(event, PieceReceived):
                self._on_piece(event)
            elif isinstance(event, Ready):
                self._questions.begin()
                self.set_log()
            elif isinstance(event, ItemReceived):
                self._on_item(event)
            elif isinstance(event, Closed):
                self._on_closed(event.error or ConnectionLost("closed"))
        if self._unsaid:
            self._say_held()

    def _on_item(self, event: ItemReceived) -> None:
        job = self._jobs.get(event.call)
        if job is not None:
            job.take_item(event.value)
        else:
            self._questions.take_item(event)

    def _on_piece(self, event: PieceReceived) -> None:
        job = self._jobs.get(event.call)
        if job is not None:
            job.take_piece(event.meta, event.data, partial(self._return_bytes, event.call))

    def _return_bytes(self, number: int, num_bytes: int) -> None:
        """So much of a call's payload is on its way to the guest: the worker may send as much."""
        self._connection.consume(number, num_bytes=num_bytes)
        self._driver.flush_soon()

    def _end(self, event: ResultReceived | ErrorReceived) -> None:
        job = self._jobs.pop(event.call, None)
        if job is None:
            self._questions.end(event)
            return
        if isinstance(event, ResultReceived):
            job.finish(event.result)
            if job.is_unfinished:
                self._on_return(job)
        else:
            self.num_expired += isinstance(event.error, DeadlineExceeded)
            job.fail(event.error)
        self._note_end()

    def _note_end(self) -> None:
        if not self._jobs:
            self._on_idle()

    def _on_closed(self, error: BridgeError) -> None:
        self._fault = "" if isinstance(error, TransportError) else f" ({error.message})"
        lost = WorkerLost(f"the model's worker process ended under the call{self._fault}")
        self._questions.fail(lost)
        self.fail_jobs(lost)

    def _on_lost(self) -> None:
        if not self._lost.done():
            self._lost.set_result(None)
