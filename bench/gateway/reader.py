"""Server-sent events read with as little as will do: an asyncio protocol, a connection a request, no HTTP library."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple, TypeVar, cast

_DATA = b"data: "
_END = b"data: [DONE]"


class Server(NamedTuple):
    """Where one listens on this machine: a TCP port, or a unix socket."""

    port: int = 0
    path: str = ""


@dataclass(slots=True)
class Answer:
    """A streamed completion, as its client saw it.

    Attributes:
        start: when it was asked for, by ``perf_counter``.
        arrivals: when each event with text came.
        tokens: as the server counts them.
        status: of HTTP.
        finish_reason: that the last event named.
    """

    start: float
    arrivals: list[float] = field(default_factory=list)
    tokens: int = 0
    status: int = 0
    finish_reason: str | None = None

    @property
    def ttft_ms(self) -> float:
        """Milliseconds to the first text."""
        return (self.arrivals[0] - self.start) * 1000

    @property
    def gaps_ms(self) -> list[float]:
        """Milliseconds between one text and the next."""
        return [
            (after - before) * 1000 for before, after in zip(self.arrivals, self.arrivals[1:], strict=False)
        ]


class _Lines(asyncio.Protocol):
    """Sends one request; gives each line of the response, chunk sizes and headers among them."""

    def __init__(self, body: bytes, path: str) -> None:
        self._request = (
            b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (path.encode(), len(body), body)
        )
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self.take(line)

    def take(self, line: bytes) -> None:
        raise NotImplementedError


P = TypeVar("P", bound=_Lines)


class Counter(_Lines):
    """Counts events for ever; reads none."""

    def __init__(self, body: bytes, path: str) -> None:
        super().__init__(body, path)
        self.count = 0

    def take(self, line: bytes) -> None:
        if line.startswith(_DATA):
            self.count += 1


class _Completion(_Lines):
    def __init__(self, body: bytes, path: str) -> None:
        super().__init__(body, path)
        self.answer = Answer(perf_counter())
        self.done = asyncio.get_running_loop().create_future()

    def take(self, line: bytes) -> None:
        if not self.answer.status and line.startswith(b"HTTP/1."):
            self.answer.status = int(line.split()[1])
        elif line.startswith(_END):
            self._finish()
        elif line.startswith(_DATA):
            self._read(json.loads(line[len(_DATA) :]))

    def connection_lost(self, error: Exception | None) -> None:
        self._finish()

    def _read(self, event: dict[str, Any]) -> None:
        for choice in event["choices"]:
            if choice.get("text"):
                self.answer.arrivals.append(perf_counter())
            self.answer.finish_reason = choice.get("finish_reason") or self.answer.finish_reason
        if usage := event.get("usage"):
            self.answer.tokens = usage["completion_tokens"]

    def _finish(self) -> None:
        self.transport.close()
        if not self.done.done():
            self.done.set_result(None)


async def complete(server: Server, request: dict[str, Any]) -> Answer:
    """Ask for a completion, and read it to its end.

    Raises:
        RuntimeError: the server refused it, or cut it short.
    """
    body = json.dumps({**request, "stream": True, "stream_options": {"include_usage": True}}).encode()
    protocol = await _connect(server, _Completion(body, "/v1/completions"))
    await protocol.done
    answer = protocol.answer
    if answer.status != 200 or not answer.arrivals or answer.finish_reason is None:
        raise RuntimeError(f"{server}: no whole answer came (status {answer.status})")
    return answer


async def count(server: Server, request: dict[str, Any]) -> Counter:
    """Begin to count the events of an answer."""
    return await _connect(server, Counter(json.dumps(request).encode(), "/v1/completions"))


async def _connect(server: Server, protocol: P) -> P:
    loop = asyncio.get_running_loop()
    if server.path:
        await loop.create_unix_connection(lambda: protocol, server.path)
    else:
        await loop.create_connection(lambda: protocol, "127.0.0.1", server.port)
    return protocol
