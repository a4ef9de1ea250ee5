"""JSON over gRPC: a ``grpc.aio`` server with generic handlers, each message one JSON object; arrays as lists of numbers.

The variant ``bytes`` sends arrays as they are in memory.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from bench.wire.workload import FLAT, make_array, stamp, token

SERVICE = "bench.Bridge"
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def serve(path: str, announce: Callable[[], None]) -> None:
    asyncio.run(_serve(path, announce))


async def _serve(path: str, announce: Callable[[], None]) -> None:
    server = grpc.aio.server(options=OPTIONS)
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    clock = Clock()
    handlers = {
        "Echo": unary(echo, loads, dumps),
        "Generate": stream(clock.generate, loads, dumps),
        "Arrays": stream(arrays, loads, dumps),
        "ArraysBytes": stream(arrays_bytes, loads, None),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    announce()
    await server.wait_for_termination()


def dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


def loads(data: bytes) -> Any:
    return json.loads(data)


async def echo(request: Any, context: Any) -> Any:
    return request


async def arrays(request: Any, context: Any) -> AsyncIterator[Any]:
    data = make_array(request["nbytes"])
    for _ in range(request["count"]):
        yield {"dtype": "float32", "data": data.tolist()}


async def arrays_bytes(request: Any, context: Any) -> AsyncIterator[bytes]:
    data = make_array(request["nbytes"])
    for _ in range(request["count"]):
        yield data.tobytes()


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
