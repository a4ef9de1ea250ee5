"""The host's front with a worker process behind it, whose vectors are ready: the whole way that vectors take."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import uvloop

from mlxbridge.addresses import Listen, UnixAddress
from mlxbridge.host.models import worker as worker_module
from mlxbridge.host.models.job import Job
from mlxbridge.host.models.worker import Worker
from mlxbridge.host.server.guest_calls import GuestCalls
from mlxbridge.host.server.listener import Listener
from mlxbridge.host.server.running import Running
from mlxbridge.protocol.events import CallOpened


def serve(path: str, announce: Callable[..., None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(path, announce))


async def _serve(path: str, announce: Callable[..., None]) -> None:
    worker_module.spawn = _spawn_ready  # type: ignore[attr-defined]
    worker = await Worker.start()
    await worker.ask("load", {})
    listener = Listener(None)
    await listener.listen([Listen(UnixAddress(path))], Methods(worker))
    announce(worker.process.pid)
    await asyncio.Event().wait()


class Methods:
    """Passes every call on."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def open(self, calls: GuestCalls, event: CallOpened) -> Running:
        job = Job(calls, event.call, event.method, event.params, calls.origin(event.call, event.deadline_ms))
        self._worker.submit(job)
        return Running(lambda: self._worker.cancel(job))


async def _spawn_ready(fd: int) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "bench.wire.ready_worker", "--fd", str(fd)]
    return await asyncio.create_subprocess_exec(*command, pass_fds=[fd])
