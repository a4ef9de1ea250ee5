"""A gateway inside the test's own process and loop, on a real socket, with routes of the test's choice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from starlette.routing import BaseRoute

from mlxbridge.addresses import Listen, TcpAddress
from mlxbridge.guest.gateway.app import make_app
from mlxbridge.guest.gateway.gateway import Gateway
from mlxbridge.guest.gateway.record import Record
from mlxbridge.guest.gateway.server import Server
from mlxbridge.guest.gateway.settings import Settings
from mlxbridge.transport.listen import listener

LOCAL = Listen(TcpAddress("127.0.0.1", 0))


@dataclass(kw_only=True)
class Inside:
    """One that serves; ``records`` has the requests that have ended."""

    gateway: Gateway
    server: Server
    port: int
    records: list[Record]

    async def send(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        await writer.drain()
        return reader, writer

    async def ask(self, data: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to one request, on a connection of its own."""
        reader, writer = await self.send(data)
        try:
            return await read_answer(reader)
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def serving(settings: Settings, routes: Sequence[BaseRoute]) -> AsyncIterator[Inside]:
    gateway = Gateway(settings)
    records: list[Record] = []
    gateway.listen(records.append)
    with listener(LOCAL) as sock:
        async with gateway.running():
            server = Server(gateway, make_app(gateway, routes))
            task = asyncio.ensure_future(server.serve([sock]))
            try:
                yield Inside(gateway=gateway, server=server, port=sock.getsockname()[1], records=records)
            finally:
                if not task.done():
                    server.stop()
                    server.stop()
                await task


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if b"transfer-encoding: chunked" in head:
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return status, body
    (length,) = [line for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    return status, await reader.readexactly(int(length.partition(b":")[2]))
