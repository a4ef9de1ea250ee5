"""The pace of streams that are to get a token at each tick of a clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from bench.wire.workload import FLAT, stamp, token


class Clock:
    """Steps all paced streams together, as a batching engine does, through a queue for each stream."""

    def __init__(self) -> None:
        self._queues: dict[asyncio.Queue[int], None] = {}
        self._due = 0.0

    async def generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        if request["prompt"] == FLAT:
            number = 0
            while True:
                number += 1
                yield token(number)
        queue = self.join(float(request["prompt"]))
        try:
            while True:
                yield token(await queue.get())
        finally:
            self._queues.pop(queue, None)

    def join(self, interval: float) -> asyncio.Queue[int]:
        """A queue that brings a stamp at each tick."""
        if not self._queues:
            loop = asyncio.get_running_loop()
            self._due = loop.time()
            loop.call_soon(self._tick, loop, interval)
        queue: asyncio.Queue[int] = asyncio.Queue()
        self._queues[queue] = None
        return queue

    def _tick(self, loop: asyncio.AbstractEventLoop, interval: float) -> None:
        now = stamp()
        for queue in self._queues:
            queue.put_nowait(now)
        self._due += interval
        loop.call_at(self._due, self._tick, loop, interval)
