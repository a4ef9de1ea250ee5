"""gRPC's blocking client: one channel, a thread a stream."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import numpy as np

from bench.wire.grpc_server import OPTIONS, SERVICE, dumps, loads
from bench.wire.meter import Bench, Meter, Result, Tally, bulk_result, paced_result, rate_result
from bench.wire.workload import DIMENSIONS, ECHO, ENDLESS, FLAT, Floats, age_us, burst


def run(test: str, bench: Bench) -> Result:
    settings = bench.settings
    channel = grpc.insecure_channel(f"unix:{bench.path}", options=OPTIONS)
    match test:
        case "round_trip":
            echo = channel.unary_unary(f"/{SERVICE}/Echo", dumps, loads)
            return bench.round_trips(lambda: echo(ECHO))
        case "stream_1":
            return flat(bench, channel, 1)
        case "stream_64":
            return flat(bench, channel, settings.streams)
        case "paced_64":
            return paced(bench, channel)
        case "bulk_1mb":
            return bulk(bench, channel, settings.small_bytes)
        case "bulk_16mb":
            return bulk(bench, channel, settings.large_bytes)
        case "vectors":
            num_bytes = settings.vectors * DIMENSIONS * 4
            return bench.payloads(lambda: sum(array.nbytes for array in arrays(bench, channel, num_bytes, 1)))
        case "mixed":
            return mixed(bench, channel)
    raise ValueError(test)


def generate(channel: Any, prompt: str) -> Iterator[Any]:
    tokens: Iterator[Any] = channel.unary_stream(f"/{SERVICE}/Generate", dumps, loads)({"prompt": prompt})
    return tokens


def flat(bench: Bench, channel: Any, num_streams: int) -> Result:
    tallies = [Tally() for _ in range(num_streams)]

    def read(tally: Tally) -> None:
        for _token in generate(channel, FLAT):
            tally.tokens += 1
            tally.chunks += 1

    bench.start_threads([partial(read, tally) for tally in tallies])
    return rate_result(bench.watch(lambda: sum(tally.tokens for tally in tallies)), tallies)


def paced(bench: Bench, channel: Any) -> Result:
    ages: list[int] = []
    body = _read_stamps(channel, bench.settings.paced_interval, ages)
    bench.start_threads([body] * bench.settings.streams)
    return paced_result(bench.watch(lambda: len(ages)), ages)


def bulk(bench: Bench, channel: Any, num_bytes: int) -> Result:
    """A JSON array takes seconds, so they are asked for one by one; bytes come in bursts."""
    count = burst(num_bytes) if bench.variant == "bytes" else 1
    if bench.settings.large_bytes != num_bytes:
        for _ in arrays(bench, channel, num_bytes, count):
            pass
    received = 0
    meter = Meter(bench.server)
    end = time.perf_counter() + bench.settings.seconds
    while time.perf_counter() < end:
        for array in arrays(bench, channel, num_bytes, count):
            received += array.nbytes
    return bulk_result(meter.stop(), received)


def mixed(bench: Bench, channel: Any) -> Result:
    ages: list[int] = []
    sizes: list[int] = []
    settings = bench.settings

    def read_arrays() -> None:
        for array in arrays(bench, channel, settings.large_bytes, ENDLESS):
            sizes.append(array.nbytes)

    body = _read_stamps(channel, settings.mixed_interval, ages)
    bench.start_threads([read_arrays, *[body] * settings.mixed_streams])
    before = [0]

    def count() -> int:
        before.append(sum(sizes))
        return len(ages)

    span = bench.watch(count)
    return {**paced_result(span, ages), "gb_per_s": (before[-1] - before[-2]) / span.seconds / 1e9}


def arrays(bench: Bench, channel: Any, num_bytes: int, count: int) -> Iterator[Floats]:
    method, read = methods(bench.variant)
    for message in channel.unary_stream(method, dumps, None)({"nbytes": num_bytes, "count": count}):
        yield read(message)


def methods(variant: str) -> tuple[str, Callable[[bytes], Floats]]:
    """The method for arrays, and how to read its messages."""
    if variant == "bytes":
        return f"/{SERVICE}/ArraysBytes", lambda message: np.frombuffer(message, np.float32)
    return f"/{SERVICE}/Arrays", lambda message: np.array(json.loads(message)["data"], np.float32)


def _read_stamps(channel: Any, interval: float, ages: list[int]) -> Callable[[], None]:
    def read() -> None:
        for token in generate(channel, str(interval)):
            ages.append(age_us(token["id"]))

    return read
