"""Clients that do not read: the gateway takes no more from the host than it can pass on, and goes on saying that it lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping, Sequence
from typing import Any

import pytest
from starlette.types import ASGIApp

from mlxbridge import AsyncClient
from mlxbridge.errors import TransportError
from mlxbridge.guest.gateway import streaming
from mlxbridge.guest.gateway.app import make_app
from mlxbridge.guest.gateway.endpoint import route
from mlxbridge.guest.gateway.exchange import Ask, Exchange
from mlxbridge.guest.gateway.gateway import Gateway
from mlxbridge.guest.gateway.health import PLAIN
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.guest.gateway.settings import Settings
from mlxbridge.types import Chunk, Generation
from tests.guest.gateway.inside import LOCAL, Inside, serving
from tests.integration.hosts import HostProcess

REQUEST = b"GET /stream?%s HTTP/1.1\r\nhost: localhost\r\n\r\n"
PIECE = 1 << 20


class Broad:
    """Writes a mebibyte for each chunk, so that no buffer of a socket has room for many; counts them."""

    media_type = "text/event-stream"
    keep_alive = b": alive\n\n"

    def __init__(self) -> None:
        self.num_chunks = 0

    def begin(self, index: int) -> bytes:
        return b""

    def take(self, index: int, chunk: Chunk) -> bytes:
        self.num_chunks += 1
        return b"x" * PIECE

    def finish(self, index: int, answer: Generation) -> bytes:
        return b""

    def end(self, answers: Sequence[Generation]) -> bytes:
        return b"end"

    def fail(self, problem: Problem, request_id: str) -> bytes:
        return problem.code.encode()


WRITER = Broad()


async def stream(exchange: Exchange) -> ASGIApp:
    ask = Ask("The ", {"max_tokens": 1_000_000, "ignore_eos": True})
    return exchange.stream([ask] * int(exchange.query["n"]), WRITER)


@pytest.fixture
async def inside(endless_host: HostProcess) -> AsyncIterator[Inside]:
    WRITER.num_chunks = 0
    settings = Settings(listens=(LOCAL,), url=endless_host.url, drain_timeout_s=1)
    async with serving(settings, [route(PLAIN, "/stream", GET=stream)]) as inside:
        yield inside


async def until_nothing_comes(inside: Inside) -> int:
    """How many chunks were written when no more were for half a second."""
    before = -1
    while WRITER.num_chunks != before or not before:
        before = WRITER.num_chunks
        await asyncio.sleep(0.5)
    return before


@pytest.mark.parametrize("n", [1, 3])
async def test_nothing_is_taken_that_the_connection_has_no_room_for(inside: Inside, n: int) -> None:
    reader, writer = await inside.send(REQUEST % f"n={n}".encode())
    await reader.readexactly(100)
    written = await until_nothing_comes(inside)
    assert written < 32  # what fits into the buffers of both ends, 6 MB each at most
    (connection,) = inside.server.server_state.connections
    assert connection.transport.get_write_buffer_size() < (n + 2) * PIECE
    await reader.readexactly((written + 8) * PIECE)  # it goes on once somebody reads
    writer.close()
    while not inside.records:
        await asyncio.sleep(0.01)
    assert inside.records[0].is_cut and inside.records[0].completion_tokens >= written + 8


async def test_slow_reader_does_not_keep_the_gateway_from_ending(inside: Inside) -> None:
    reader, writer = await inside.send(REQUEST % b"n=1")
    await reader.readexactly(100)
    await until_nothing_comes(inside)
    async with asyncio.timeout(20):
        inside.server.stop()
        inside.server.stop()
        while inside.server.server_state.tasks:
            await asyncio.sleep(0.01)
    writer.close()


async def test_stream_that_says_nothing_yet_is_kept_alive(
    endless_host: HostProcess, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "KEEP_ALIVE_S", 0.05)
    with endless_host.client() as client:
        client.unload_model("demo")
    reader, writer = await inside.send(REQUEST % b"n=1")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 OK" in head and b"text/event-stream" in head
    first = await reader.readuntil(b"alive\n\n")
    assert b"x" not in first
    await reader.readuntil(b"xxx")
    writer.close()


async def test_error_before_there_was_room_for_a_head_has_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something is to be said to keep the connection, which takes nothing, and then the host cannot be asked."""
    monkeypatch.setattr(streaming, "KEEP_ALIVE_S", 0.0)
    waiting: list[MutableMapping[str, Any]] = []
    sent: list[MutableMapping[str, Any]] = []
    has_room = asyncio.Event()

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        waiting.append(message)
        await has_room.wait()
        sent.append(message)

    async def generate(*_: Any, **__: Any) -> None:
        while not waiting:
            await asyncio.sleep(0.001)
        raise TransportError("the link broke")

    monkeypatch.setattr(AsyncClient, "generate", generate)
    gateway = Gateway(Settings(listens=(LOCAL,), url="unix:///nowhere"))
    scope = {"type": "http", "method": "GET", "path": "/stream", "query_string": b"n=1"}
    scope["headers"] = [(b"host", b"localhost")]
    async with gateway.running():
        asked = make_app(gateway, [route(PLAIN, "/stream", GET=stream)])(scope, receive, send)
        task = asyncio.ensure_future(asked)
        while len(waiting) < 2:
            await asyncio.sleep(0.001)
        has_room.set()
        await task
    assert waiting[0]["status"] == 200  # which was given up
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 503 and b"host_unreachable" in sent[1]["body"]
