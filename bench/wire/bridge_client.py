"""``mlxbridge.Client``: one connection, a thread a stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from bench.wire.meter import Bench, Meter, Result, Tally, bulk_result, paced_result, rate_result
from bench.wire.workload import ECHO, ENDLESS, FLAT, Floats, age_us, burst
from mlxbridge.guest.blocking import Client
from mlxbridge.protocol.limits import Windows


def run(test: str, bench: Bench) -> Result:
    settings = bench.settings
    with Client(f"unix://{bench.path}") as client:
        match test:
            case "round_trip":
                return bench.round_trips(lambda: client._caller.ask("echo", ECHO, None))
            case "ping":
                return bench.round_trips(client.ping)
            case "stream_1":
                return flat(bench, client, 1)
            case "stream_64":
                return flat(bench, client, settings.streams)
            case "paced_64":
                return paced(bench, client)
            case "bulk_1mb":
                return bulk(bench, client, settings.small_bytes)
            case "bulk_16mb":
                return bulk(bench, client, settings.large_bytes)
            case "vectors":
                asked = [str(settings.vectors)]
                return bench.payloads(lambda: client.embed(asked).data.nbytes)
            case "mixed":
                return mixed(bench, client)
    raise ValueError(test)


def flat(bench: Bench, client: Client, num_streams: int) -> Result:
    tallies = [Tally() for _ in range(num_streams)]

    def read(tally: Tally) -> None:
        for chunk in client.generate(FLAT, stream=True):
            tally.tokens += len(chunk.token_ids)
            tally.chunks += 1

    bench.start_threads([partial(read, tally) for tally in tallies])
    return rate_result(bench.watch(lambda: sum(tally.tokens for tally in tallies)), tallies)


def paced(bench: Bench, client: Client) -> Result:
    ages: list[int] = []
    body = _read_stamps(client, bench.settings.paced_interval, ages)
    bench.start_threads([body] * bench.settings.streams)
    return paced_result(bench.watch(lambda: len(ages)), ages)


def bulk(bench: Bench, client: Client, num_bytes: int) -> Result:
    count = burst(num_bytes)
    for _ in arrays(client, num_bytes, count):
        pass
    received = 0
    meter = Meter(bench.server)
    end = time.perf_counter() + bench.settings.seconds
    while time.perf_counter() < end:
        for array in arrays(client, num_bytes, count):
            received += array.nbytes
    return bulk_result(meter.stop(), received)


def mixed(bench: Bench, client: Client) -> Result:
    ages: list[int] = []
    sizes: list[int] = []
    settings = bench.settings

    def read_arrays() -> None:
        for array in arrays(client, settings.large_bytes, ENDLESS):
            sizes.append(array.nbytes)

    body = _read_stamps(client, settings.mixed_interval, ages)
    bench.start_threads([read_arrays, *[body] * settings.mixed_streams])
    before = [0]

    def count() -> int:
        before.append(sum(sizes))
        return len(ages)

    span = bench.watch(count)
    return {**paced_result(span, ages), "gb_per_s": (before[-1] - before[-2]) / span.seconds / 1e9}


def arrays(client: Client, num_bytes: int, count: int) -> Iterator[Floats]:
    """Payloads as the link received them; clients have no method for them yet."""
    params = {"nbytes": num_bytes, "count": count}
    retries = client._caller.defaults.retries("bulk", None)
    link, (call,) = client._caller.open("bulk", [params], retries, Windows())
    while True:
        link.wait(call, retries.deadline)
        if not call.payloads:
            assert call.error is None, call.error
            return
        data = call.payloads.popleft().data
        yield np.frombuffer(data, np.float32)
        with link._driver.mutex:
            link._connection.consume(call.number, num_bytes=len(data))
            link._driver.flush()


def _read_stamps(client: Client, interval: float, ages: list[int]) -> Callable[[], None]:
    def read() -> None:
        for chunk in client.generate(str(interval), stream=True):
            for stamped in chunk.token_ids:
                ages.append(age_us(stamped))

    return read
