"""``GET /metrics`` over HTTP/1.1, on the front's own loop: one answer a connection, to whoever reaches the socket."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from mlxbridge.addresses import Address, Listen
from mlxbridge.transport.listen import bound_address, close_listener, open_listener

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_CONNECTIONS = 16
TIMEOUT_S = 5.0
_MAX_HEAD_BYTES = 16 * 1024

Render = Callable[[], Awaitable[bytes]]
"""Gives all metrics as they are."""


class Scrape:
    """Owns the socket that metrics are asked for at."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._num_open = 0

    async def listen(self, listen: Listen) -> Address:
        """Open the socket and serve it; where it really is.

        Raises:
            TransportError: it cannot be opened.
        """
        self._socket = open_listener(listen)
        self._server = await asyncio.start_server(self._serve, sock=self._socket, limit=_MAX_HEAD_BYTES)
        return bound_address(self._socket, listen)

    def close(self) -> None:
        """Serve no longer; twice is fine."""
        if self._server is not None:
            self._server.close()
        if self._socket is not None:
            close_listener(self._socket)
        self._server = self._socket = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._num_open += 1
        try:
            if self._num_open <= MAX_CONNECTIONS:
                async with asyncio.timeout(TIMEOUT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(await self._answer(head))
                    writer.close()
                    await writer.wait_closed()  # all has left
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked has gone, does not read, or asks for nothing that can be answered
        finally:
            self._num_open -= 1
            writer.transport.abort()  # closing it would keep what nobody reads

    async def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path != b"/metrics":
            return _response("404 Not Found", b"the metrics are at /metrics\n")
        if method != b"GET":
            return _response(
                "405 Method Not Allowed", b"the metrics can only be asked for\n", "Allow: GET\r\n"
            )
        try:
            body = await self._render()
        except Exception:
            log.exception("metrics could not be told")
            return _response("500 Internal Server Error", b"see the host's log\n")
        return _response("200 OK", body)


def _response(status: str, body: bytes, more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        f"{more}Connection: close\r\n\r\n"
    )
    return head.encode() + body
