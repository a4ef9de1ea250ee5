"""``mlxbridge.AsyncClient``: one connection, a task a stream; on asyncio's own loop or on uvloop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import numpy as np
import uvloop

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
from bench.wire.workload import ECHO, ENDLESS, FLAT, Floats, age_us, burst
from mlxbridge.guest.async_reader import Waiter
from mlxbridge.guest.client import AsyncClient
from mlxbridge.protocol.limits import Windows


def run(test: str, bench: Bench) -> Result:
    factory = uvloop.new_event_loop if bench.variant == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_run(test, bench))


async def _run(test: str, bench: Bench) -> Result:
    settings = bench.settings
    async with AsyncClient(f"unix://{bench.path}") as client:
        match test:
            case "round_trip" | "ping":
                return await round_trips(bench, client, test)
            case "stream_1":
                return await flat(bench, client, 1)
            case "stream_64":
                return await flat(bench, client, settings.streams)
            case "paced_64":
                return await paced(bench, client)
            case "bulk_1mb":
                return await bulk(bench, client, settings.small_bytes)
            case "bulk_16mb":
                return await bulk(bench, client, settings.large_bytes)
            case "mixed":
                return await mixed(bench, client)
    raise ValueError(test)


async def round_trips(bench: Bench, client: AsyncClient, test: str) -> Result:
    await _repeat(client, test, bench.settings.warm)
    meter = Meter(bench.server)
    took = await _repeat(client, test, bench.settings.seconds)
    return round_trip_result(meter.stop(), took)


async def _repeat(client: AsyncClient, test: str, seconds: float) -> list[int]:
    clock = time.perf_counter_ns
    took = []
    end = clock() + int(seconds * 1e9)
    now = clock()
    while now < end:
        if test == "ping":
            await client.ping()
        else:
            await client._caller.ask("echo", ECHO, None)
        then, now = now, clock()
        took.append(now - then)
    return took


async def flat(bench: Bench, client: AsyncClient, num_streams: int) -> Result:
    tallies = [Tally() for _ in range(num_streams)]

    async def read(tally: Tally) -> None:
        async for chunk in await client.generate(FLAT, stream=True):
            tally.tokens += len(chunk.token_ids)
            tally.chunks += 1

    tasks = [asyncio.create_task(read(tally)) for tally in tallies]
    span = await bench.watch_async(lambda: sum(tally.tokens for tally in tallies), tasks)
    return rate_result(span, tallies)


async def paced(bench: Bench, client: AsyncClient) -> Result:
    ages: list[int] = []
    interval = bench.settings.paced_interval
    tasks = [asyncio.create_task(_stamps(client, interval, ages)) for _ in range(bench.settings.streams)]
    return paced_result(await bench.watch_async(lambda: len(ages), tasks), ages)


async def bulk(bench: Bench, client: AsyncClient, num_bytes: int) -> Result:
    count = burst(num_bytes)
    received = 0
    async for _ in arrays(client, num_bytes, count):
        pass
    meter = Meter(bench.server)
    end = time.perf_counter() + bench.settings.seconds
    while time.perf_counter() < end:
        async for array in arrays(client, num_bytes, count):
            received += array.nbytes
    return bulk_result(meter.stop(), received)


async def mixed(bench: Bench, client: AsyncClient) -> Result:
    ages: list[int] = []
    sizes: list[int] = []
    settings = bench.settings

    async def read_arrays() -> None:
        async for array in arrays(client, settings.large_bytes, ENDLESS):
            sizes.append(array.nbytes)

    tasks = [asyncio.create_task(read_arrays())]
    for _ in range(settings.mixed_streams):
        tasks.append(asyncio.create_task(_stamps(client, settings.mixed_interval, ages)))
    before = [0]

    def count() -> int:
        before.append(sum(sizes))
        return len(ages)

    span = await bench.watch_async(count, tasks)
    return {**paced_result(span, ages), "gb_per_s": (before[-1] - before[-2]) / span.seconds / 1e9}


async def arrays(client: AsyncClient, num_bytes: int, count: int) -> AsyncIterator[Floats]:
    """Payloads as the link received them; clients have no method for them yet."""
    params = {"nbytes": num_bytes, "count": count}
    retries = client._caller.defaults.retries("bulk", None)
    link, (call,) = await client._caller.open("bulk", [params], retries, Windows())
    waiter = Waiter(link.loop)
    call.news = waiter.wake
    while True:
        if not call.readable:
            await waiter.sleep()
        if not call.payloads:
            assert call.error is None, call.error
            return
        data = call.payloads.popleft().data
        yield np.frombuffer(data, np.float32)
        link._connection.consume(call.number, num_bytes=len(data))
        link._driver.flush_soon()


async def _stamps(client: AsyncClient, interval: float, ages: list[int]) -> None:
    async for chunk in await client.generate(str(interval), stream=True):
        for stamped in chunk.token_ids:
            ages.append(age_us(stamped))
