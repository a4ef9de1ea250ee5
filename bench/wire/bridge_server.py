"""The real front (``Listener``, ``Session``) before a model that costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import uvloop

from bench.wire.ready_worker import send_ready
from bench.wire.workload import FLAT, TEXT, Floats, make_array, stamp
from mlxbridge.addresses import Listen, UnixAddress
from mlxbridge.errors import UnknownMethod
from mlxbridge.host.server.guest_calls import GuestCalls
from mlxbridge.host.server.listener import Listener
from mlxbridge.host.server.running import Running
from mlxbridge.protocol.events import CallOpened


def serve(path: str, announce: Callable[[], None]) -> None:
    uvloop.run(_serve(path, announce))


async def _serve(path: str, announce: Callable[[], None]) -> None:
    listener = Listener(None)
    await listener.listen([Listen(UnixAddress(path))], Model())
    announce()
    await asyncio.Event().wait()


class Model:
    """Stands where ``GuestMethods`` stands."""

    def __init__(self) -> None:
        self._engines: dict[tuple[GuestCalls, str], Engine] = {}
        self._vectors: dict[int, Floats] = {}

    def open(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        call, params = event.call, event.params
        if event.method == "echo":
            calls.finish(call, params)
            return None
        if event.method == "bulk":
            send_arrays(calls, call, params["nbytes"], params["count"])
            return None
        if event.method == "embed":
            send_ready(calls._connection, call, params, self._vectors)
            return None
        if event.method == "generate":
            return self._engine(calls, params["prompt"]).add(call)
        raise UnknownMethod(event.method)

    def _engine(self, calls: GuestCalls, prompt: str) -> Engine:
        key = calls, prompt
        if key not in self._engines:
            self._engines[key] = FlatEngine(calls) if prompt == FLAT else PacedEngine(calls, float(prompt))
        return self._engines[key]


def send_arrays(calls: GuestCalls, call: int, num_bytes: int, count: int) -> None:
    """Hand all of them to the connection, which sends as the guest's credit allows; then the result."""
    connection: Any = calls._connection  # they would count the array anew each time
    data = make_array(num_bytes).data
    for _ in range(count):
        connection.send_data(call, {"dtype": "float32"}, data)
    calls.finish(call, {})


class Engine:
    """A batch of one guest's calls: each step gives each call one token, in columns, with one write."""

    def __init__(self, calls: GuestCalls) -> None:
        self._guest_calls = calls
        self._loop = asyncio.get_running_loop()
        self._batch: dict[int, None] = {}

    def add(self, call: int) -> Running:
        """A call joins the batch."""
        if not self._batch:
            self._loop.call_soon(self._start)
        self._batch[call] = None
        return Running(lambda: self._batch.pop(call, None))

    def _start(self) -> None:
        raise NotImplementedError

    def _step(self, number: int) -> None:
        count = len(self._batch)
        self._guest_calls.send_tokens(list(self._batch), [[number]] * count, [TEXT] * count)
        self._guest_calls.flush()


class FlatEngine(Engine):
    """The next step as soon as the session holds nothing back, so that no two tokens are ever merged into one chunk."""

    def __init__(self, calls: GuestCalls) -> None:
        super().__init__(calls)
        self._number = 0
        self._held = False
        session: Any = calls._flush.__self__  # type: ignore[attr-defined]
        driver: Any = session.driver
        self._then_events, self._then_resume = driver._on_events, driver.resume_writing
        driver._on_events = self._on_events  # credit and acknowledgements come with events
        driver.resume_writing = self._on_resume

    def _start(self) -> None:
        self._number += 1
        self._step(self._number)
        self._go_on()

    def _go_on(self) -> None:
        connection = self._guest_calls._connection
        self._held = connection.has_unsent or connection._writer.blocked
        if self._batch and not self._held:
            self._loop.call_soon(self._start)

    def _on_events(self) -> None:
        self._then_events()
        if self._held:
            self._held = False
            self._loop.call_soon(self._go_on)  # the driver flushes first

    def _on_resume(self) -> None:
        self._then_resume()
        if self._held:
            self._go_on()


class PacedEngine(Engine):
    """A step at each tick of a clock, late or not, with its time as the token."""

    def __init__(self, calls: GuestCalls, interval: float) -> None:
        super().__init__(calls)
        self._interval = interval
        self._due = 0.0

    def _start(self) -> None:
        self._due = self._loop.time()
        self._tick()

    def _tick(self) -> None:
        if self._batch:
            self._step(stamp())
            self._due += self._interval
            self._loop.call_at(self._due, self._tick)
