"""SSE read with httpx: the blocking client for one thing at a time, the asyncio client (on uvloop) for many streams."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import AsyncIterator

import httpx  # type: ignore[import-not-found, unused-ignore]
import numpy as np
import uvloop

from bench.wire.meter import Bench, Meter, Result, Tally, bulk_result, paced_result, rate_result
from bench.wire.workload import ECHO, FLAT, age_us

_URL = "http://bench"


def run(test: str, bench: Bench) -> Result:
    settings = bench.settings
    match test:
        case "stream_64":
            return uvloop.run(flat_async(bench))
        case "paced_64":
            return uvloop.run(paced(bench))
    with httpx.Client(transport=httpx.HTTPTransport(uds=bench.path), timeout=None) as client:
        match test:
            case "round_trip":
                return bench.round_trips(lambda: client.post(f"{_URL}/echo", json=ECHO).json())
            case "stream_1":
                return flat(bench, client)
            case "bulk_1mb":
                return bulk(bench, client, settings.small_bytes)
            case "bulk_16mb":
                return bulk(bench, client, settings.large_bytes)
    raise ValueError(test)


def flat(bench: Bench, client: httpx.Client) -> Result:
    tally = Tally()

    def read() -> None:
        with client.stream("POST", f"{_URL}/generate", json={"prompt": FLAT}) as response:
            for line in response.iter_lines():
                if line.startswith("data: "):
                    json.loads(line[6:])
                    tally.tokens += 1
                    tally.chunks += 1

    bench.start_threads([read])
    return rate_result(bench.watch(lambda: tally.tokens), [tally])


def bulk(bench: Bench, client: httpx.Client, num_bytes: int) -> Result:
    embed(client, num_bytes)
    received = 0
    meter = Meter(bench.server)
    end = time.perf_counter() + bench.settings.seconds
    while time.perf_counter() < end:
        received += embed(client, num_bytes)
    return bulk_result(meter.stop(), received)


def embed(client: httpx.Client, num_bytes: int) -> int:
    answer = client.post(f"{_URL}/embed", json={"nbytes": num_bytes}).json()
    return np.frombuffer(b64decode(answer["data"]), np.float32).nbytes


def _connect(bench: Bench) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=bench.path, limits=limits), timeout=None)


async def flat_async(bench: Bench) -> Result:
    tallies = [Tally() for _ in range(bench.settings.streams)]
    async with _connect(bench) as client:

        async def read(tally: Tally) -> None:
            async for _ in tokens(client, FLAT):
                tally.tokens += 1
                tally.chunks += 1

        tasks = [asyncio.create_task(read(tally)) for tally in tallies]
        span = await bench.watch_async(lambda: sum(tally.tokens for tally in tallies), tasks)
    return rate_result(span, tallies)


async def paced(bench: Bench) -> Result:
    ages: list[int] = []
    async with _connect(bench) as client:

        async def read() -> None:
            async for number in tokens(client, str(bench.settings.paced_interval)):
                ages.append(age_us(number))

        tasks = [asyncio.create_task(read()) for _ in range(bench.settings.streams)]
        span = await bench.watch_async(lambda: len(ages), tasks)
    return paced_result(span, ages)


async def tokens(client: httpx.AsyncClient, prompt: str) -> AsyncIterator[int]:
    async with client.stream("POST", f"{_URL}/generate", json={"prompt": prompt}) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line[6:])["id"]
