"""gRPC's asyncio client: one channel, a task a stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from bench.wire.grpc_client import methods
from bench.wire.grpc_server import OPTIONS, SERVICE, dumps, loads
from bench.wire.meter import (
    Bench,
    Meter,
    Result,
    Tally,
    bulk_result,
    paced_result,
    rate_result,
    round_trip_result,
)
from bench.wire.workload import ECHO, ENDLESS, FLAT, Floats, age_us


def run(test: str, bench: Bench) -> Result:
    return asyncio.run(_run(test, bench))


async def _run(test: str, bench: Bench) -> Result:
    settings = bench.settings
    channel = grpc.aio.insecure_channel(f"unix:{bench.path}", options=OPTIONS)
    match test:
        case "round_trip":
            return await round_trips(bench, channel)
        case "stream_1":
            return await flat(bench, channel, 1)
        case "stream_64":
            return await flat(bench, channel, settings.streams)
        case "paced_64":
            return await paced(bench, channel)
        case "bulk_1mb":
            return await bulk(bench, channel, settings.small_bytes)
        case "bulk_16mb":
            return await bulk(bench, channel, settings.large_bytes)
        case "mixed":
            return await mixed(bench, channel)
    raise ValueError(test)


async def round_trips(bench: Bench, channel: Any) -> Result:
    echo = channel.unary_unary(f"/{SERVICE}/Echo", dumps, loads)
    await _repeat(echo, bench.settings.warm)
    meter = Meter(bench.server)
    took = await _repeat(echo, bench.settings.seconds)
    return round_trip_result(meter.stop(), took)


async def _repeat(echo: Any, seconds: float) -> list[int]:
    clock = time.perf_counter_ns
    took = []
    end = clock() + int(seconds * 1e9)
    now = clock()
    while now < end:
        await echo(ECHO)
        then, now = now, clock()
        took.append(now - then)
    return took


def generate(channel: Any, prompt: str) -> AsyncIterator[Any]:
    tokens: AsyncIterator[Any] = channel.unary_stream(f"/{SERVICE}/Generate", dumps, loads)(
        {"prompt": prompt}
    )
    return tokens


async def flat(bench: Bench, channel: Any, num_streams: int) -> Result:
    tallies = [Tally() for _ in range(num_streams)]

    async def read(tally: Tally) -> None:
        async for _token in generate(channel, FLAT):
            tally.tokens += 1
            tally.chunks += 1

    tasks = [asyncio.create_task(read(tally)) for tally in tallies]
    span = await bench.watch_async(lambda: sum(tally.tokens for tally in tallies), tasks)
    return rate_result(span, tallies)


async def paced(bench: Bench, channel: Any) -> Result:
    ages: list[int] = []
    interval = bench.settings.paced_interval
    tasks = [asyncio.create_task(_stamps(channel, interval, ages)) for _ in range(bench.settings.streams)]
    return paced_result(await bench.watch_async(lambda: len(ages), tasks), ages)


async def bulk(bench: Bench, channel: Any, num_bytes: int) -> Result:
    if bench.settings.large_bytes != num_bytes:
        async for _ in arrays(bench, channel, num_bytes, 1):
            pass
    received = 0
    meter = Meter(bench.server)
    end = time.perf_counter() + bench.settings.seconds
    while time.perf_counter() < end:
        async for array in arrays(bench, channel, num_bytes, 1):
            received += array.nbytes
    return bulk_result(meter.stop(), received)


async def mixed(bench: Bench, channel: Any) -> Result:
    ages: list[int] = []
    sizes: list[int] = []
    settings = bench.settings

    async def read_arrays() -> None:
        async for array in arrays(bench, channel, settings.large_bytes, ENDLESS):
            sizes.append(array.nbytes)

    tasks = [asyncio.create_task(read_arrays())]
    for _ in range(settings.mixed_streams):
        tasks.append(asyncio.create_task(_stamps(channel, settings.mixed_interval, ages)))
    before = [0]

    def count() -> int:
        before.append(sum(sizes))
        return len(ages)

    span = await bench.watch_async(count, tasks)
    return {**paced_result(span, ages), "gb_per_s": (before[-1] - before[-2]) / span.seconds / 1e9}


async def arrays(bench: Bench, channel: Any, num_bytes: int, count: int) -> AsyncIterator[Floats]:
    method, read = methods(bench.variant)
    async for message in channel.unary_stream(method, dumps, None)({"nbytes": num_bytes, "count": count}):
        yield read(message)


async def _stamps(channel: Any, interval: float, ages: list[int]) -> None:
    async for token in generate(channel, str(interval)):
        ages.append(age_us(token["id"]))
