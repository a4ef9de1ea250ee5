"""What the front itself asks a worker: to load, how it is doing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from mlxbridge.errors import WorkerLost
from mlxbridge.protocol.events import ErrorReceived, ItemReceived, ResultReceived
from mlxbridge.protocol.guest import GuestConnection

Item = Callable[[Any], object]
"""Takes each item of an answer's stream."""


class Questions:
    """Calls of the front's own that have not been answered.

    Args:
        connection: to the worker.
        flush_soon: writes what it has, a moment later.
    """

    def __init__(self, connection: GuestConnection, flush_soon: Callable[[], object]) -> None:
        self._connection = connection
        self._flush_soon = flush_soon
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._listeners: dict[int, Item] = {}
        self._counting: asyncio.Future[Mapping[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self._answers)

    async def ask(
        self, method: str, params: Mapping[str, Any], on_item: Item | None = None
    ) -> Mapping[str, Any]:
        """A call, made once both sides have shaken hands.

        Raises:
            WorkerLost: the process died meanwhile.
            RemoteError: its answer.
        """
        await asyncio.shield(self._ready)
        if not self._connection.can_open:
            raise WorkerLost("the model's worker process has ended")
        call = self._connection.open_call(method, params)
        answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[call] = answer
        if on_item is not None:
            self._listeners[call] = on_item
        self._flush_soon()
        return await answer

    async def count(self) -> Mapping[str, Any]:
        """The worker's counters; who asks while it has not answered shares that answer, lest looks take the place of calls.

        Raises:
            WorkerLost, RemoteError: as ``ask``.
        """
        if self._counting is None or self._counting.done():
            self._counting = asyncio.ensure_future(self.ask("stats", {}))
            self._counting.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._counting)

    def begin(self) -> None:
        """Both sides have shaken hands."""
        self._ready.set_result(None)

    def take_item(self, event: ItemReceived) -> None:
        """An item of an answer."""
        self._connection.consume(event.call, items=1)
        listener = self._listeners.get(event.call)
        if listener is not None:
            listener(event.value)

    def end(self, event: ResultReceived | ErrorReceived) -> None:
        """An answer is there; one that nobody waits for is dropped."""
        self._listeners.pop(event.call, None)
        answer = self._answers.pop(event.call, None)
        if answer is not None and not answer.done():
            if isinstance(event, ResultReceived):
                answer.set_result(event.result)
            else:
                answer.set_exception(event.error)

    def fail(self, lost: WorkerLost) -> None:
        """There will be no answers."""
        answers, self._answers = self._answers, {}
        self._listeners.clear()
        waiting: list[asyncio.Future[Any]] = [self._ready, *answers.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(lost)
                future.exception()  # retrieved, so that nobody is warned if nobody waits
