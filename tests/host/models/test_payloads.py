"""Payloads on their way from a worker process through the front to a guest, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mlxbridge.addresses import parse_listen
from mlxbridge.errors import WorkerLost
from mlxbridge.host.models import worker as worker_module
from mlxbridge.host.models.job import Job
from mlxbridge.host.models.worker import Worker
from mlxbridge.host.server.guest_calls import GuestCalls
from mlxbridge.host.server.listener import Listener
from mlxbridge.host.server.running import Running
from mlxbridge.protocol import GuestConnection, Windows
from mlxbridge.protocol.events import CallOpened, DataReceived, ErrorReceived, Event, ResultReceived
from tests.host.models.payload_worker import pattern

KIB = 1024
WINDOW = 512 * KIB
LARGE = 8 * WINDOW


class Methods:
    """Passes every call on."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def open(self, calls: GuestCalls, event: CallOpened) -> Running:
        job = Job(calls, event.call, event.method, event.params)
        self.worker.submit(job)
        return Running(lambda: self.worker.cancel(job))


class Guest:
    """A guest's connection, which reads only when it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.connection = GuestConnection(software="test", nonce=os.urandom(32))
        self.events: list[Event] = []

    def send(self) -> None:
        self._writer.writelines([bytes(data) for data in self.connection.data_to_send()])

    def open(self, method: str, num_bytes: int = LARGE, windows: Windows | None = None) -> int:
        call = self.connection.open_call(method, {"num_bytes": num_bytes}, windows=windows)
        self.send()
        return call

    async def until(self, done: Callable[[], bool]) -> None:
        while not done():
            self.send()
            data = await asyncio.wait_for(self._reader.read(1 << 16), 20)
            assert data, "the host has closed the connection"
            self.connection.receive_data(data)
            self.events += self.connection.events()
        self.send()

    async def end(self, call: int) -> tuple[list[bytes], ResultReceived | ErrorReceived]:
        """The call's payloads, and its end."""

        def found() -> list[ResultReceived | ErrorReceived]:
            ends = [event for event in self.events if isinstance(event, ResultReceived | ErrorReceived)]
            return [event for event in ends if event.call == call]

        await self.until(lambda: bool(found()))
        payloads = [event for event in self.events if isinstance(event, DataReceived) and event.call == call]
        return [bytes(event.data) for event in payloads], found()[0]

    async def expect(self, call: int, num_bytes: int) -> None:
        """The call ends well, with so many bytes."""
        payloads, end = await self.end(call)
        assert isinstance(end, ResultReceived) and end.result["ok"] is True
        assert payloads == [pattern(num_bytes)]


class Front:
    def __init__(self, worker: Worker, guest: Guest) -> None:
        self.worker, self.guest = worker, guest

    def received(self) -> int:
        """Bytes of payloads that have come from the worker for the one call that is open."""
        (number,) = self.worker._jobs
        return self.worker._connection._calls[number].bytes_received


@contextlib.asynccontextmanager
async def front(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Front]:
    async def spawn(fd: int) -> asyncio.subprocess.Process:
        command = [sys.executable, "-m", "tests.host.models.payload_worker", "--fd", str(fd)]
        return await asyncio.create_subprocess_exec(*command, pass_fds=[fd])

    monkeypatch.setattr(worker_module, "spawn", spawn)
    monkeypatch.setattr(worker_module, "_WINDOWS", Windows(items=1, bytes=WINDOW))
    worker, listener = await Worker.start(), Listener(None)
    await worker.ask("load", {})
    with tempfile.TemporaryDirectory(prefix="mb-", dir="/tmp") as folder:
        path = str(Path(folder, "s"))
        await listener.listen([parse_listen(f"unix:{path}")], Methods(worker))
        reader, writer = await asyncio.open_unix_connection(path)
        guest = Guest(reader, writer)
        await guest.until(lambda: guest.connection.ready)
        try:
            yield Front(worker, guest)
        finally:
            writer.close()
            listener.stop_listening()
            await listener.close("over")
            await worker.stop()


async def test_payload_passes_through_whole_whatever_the_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    async with front(monkeypatch) as made:
        for num_bytes, window in ((0, 1), (4, 1), (100_000, 5000), (LARGE, 300_000), (LARGE, 1 << 30)):
            call = made.guest.open("whole", num_bytes, Windows(bytes=window))
            await made.guest.expect(call, num_bytes)


async def test_front_holds_a_window_of_what_the_guest_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    async with front(monkeypatch) as made:
        slow = made.guest.open("whole", LARGE, Windows(bytes=0))
        quick = made.guest.open("whole", 1000)
        await made.guest.expect(quick, 1000)
        while made.received() < WINDOW:
            await asyncio.sleep(0.001)
        quick = made.guest.open("whole", 1000)  # a way to the worker and back, on which more would have come
        await made.guest.expect(quick, 1000)
        assert made.received() == WINDOW
        made.guest.connection.cancel(slow)
        payloads, end = await made.guest.end(slow)
        assert payloads == [] and isinstance(end, ResultReceived)
        assert end.result["finish_reason"] == "cancelled"


async def test_payload_that_was_cancelled_midway_leaves_the_way_free(monkeypatch: pytest.MonkeyPatch) -> None:
    async with front(monkeypatch) as made:
        guest = made.guest
        call = guest.open("whole", LARGE, Windows(bytes=100_000))
        await guest.until(lambda: guest.connection._calls[call].payload_filled > 0)
        guest.connection.cancel(call)
        payloads, end = await guest.end(call)
        assert payloads == [] and isinstance(end, ResultReceived)
        call = guest.open("whole")
        await guest.expect(call, LARGE)


async def test_payload_breaks_off_when_the_worker_dies_under_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with front(monkeypatch) as made:
        payloads, end = await made.guest.end(made.guest.open("half", WINDOW))
        assert payloads == [] and isinstance(end, ErrorReceived) and isinstance(end.error, WorkerLost)
        assert made.guest.connection.ready


async def test_guest_that_leaves_midway_leaves_the_worker_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async with front(monkeypatch) as made:
        guest = made.guest
        call = guest.open("whole", LARGE, Windows(bytes=100_000))
        await guest.until(lambda: guest.connection._calls[call].payload_filled > 0)
        guest._writer.close()
        while made.worker._jobs:
            await asyncio.sleep(0.001)
        assert await made.worker.ask("stats", {})
