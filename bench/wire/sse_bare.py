"""SSE read with as little as will do: an asyncio protocol on uvloop, a connection a stream, no HTTP library."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import cast

import uvloop

from bench.wire.meter import Bench, Result, Tally, paced_result, rate_result
from bench.wire.workload import FLAT, age_us


class Reader(asyncio.Protocol):
    """Sends one request and takes the number out of every ``data:`` line; chunk sizes and headers are skipped."""

    def __init__(self, prompt: str, take: Callable[[int], None]) -> None:
        body = json.dumps({"prompt": prompt}).encode()
        self._request = b"POST /generate HTTP/1.1\r\nhost: bench\r\ncontent-length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )
        self._take = take
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line.startswith(b"data: "):
                self._take(json.loads(line[6:])["id"])


def run(test: str, bench: Bench) -> Result:
    if test == "paced_64":
        return uvloop.run(paced(bench))
    return uvloop.run(flat(bench, 1 if test == "stream_1" else bench.settings.streams))


async def connect(bench: Bench, prompt: str, take: Callable[[int], None]) -> None:
    await asyncio.get_running_loop().create_unix_connection(lambda: Reader(prompt, take), bench.path)


async def flat(bench: Bench, num_streams: int) -> Result:
    tallies = [Tally() for _ in range(num_streams)]
    for tally in tallies:
        await connect(bench, FLAT, _counter(tally))
    span = await bench.watch_async(lambda: sum(tally.tokens for tally in tallies), [])
    return rate_result(span, tallies)


def _counter(tally: Tally) -> Callable[[int], None]:
    def take(number: int) -> None:
        tally.tokens += 1
        tally.chunks += 1

    return take


async def paced(bench: Bench) -> Result:
    ages: list[int] = []
    for _ in range(bench.settings.streams):
        await connect(bench, str(bench.settings.paced_interval), lambda number: ages.append(age_us(number)))
    return paced_result(await bench.watch_async(lambda: len(ages), []), ages)
