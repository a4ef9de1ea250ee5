"""JSON over gRPC: a ``grpc.aio`` server with generic handlers, each message one JSON object; arrays as lists of numbers.

The variant ``bytes`` sends arrays as they are in memory.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from bench.wire.clock import Clock
from bench.wire.workload import make_array

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
