"""The floor's client: a blocking socket, and nothing between it and the numbers."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np

from bench.wire.floor_server import LENGTH, receive, send
from bench.wire.meter import Bench, Meter, Result, Tally, bulk_result, paced_result, rate_result
from bench.wire.workload import DIMENSIONS, ECHO, FLAT, age_us, burst

_BUFFER_BYTES = 64 * 1024


def run(test: str, bench: Bench) -> Result:
    settings = bench.settings
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(bench.path)
        match test:
            case "round_trip":
                return bench.round_trips(lambda: ask(sock, {"echo": ECHO}))
            case "stream_1":
                return flat(bench, sock, 1)
            case "stream_64":
                return flat(bench, sock, settings.streams)
            case "paced_64":
                return paced(bench, sock)
            case "bulk_1mb":
                return bulk(bench, sock, settings.small_bytes)
            case "bulk_16mb":
                return bulk(bench, sock, settings.large_bytes)
            case "vectors":
                return bench.payloads(lambda: receive_vectors(sock, settings.vectors))
    raise ValueError(test)


def ask(sock: socket.socket, request: dict[str, Any]) -> Any:
    send(sock, request)
    return receive(sock)


def frames(sock: socket.socket) -> Iterator[Any]:
    """Messages as they come, read many at a time."""
    view = memoryview(bytearray(_BUFFER_BYTES))
    start = end = 0
    while count := sock.recv_into(view[end:]):
        end += count
        while end - start >= LENGTH.size:
            (size,) = LENGTH.unpack_from(view, start)
            first, last = start + LENGTH.size, start + LENGTH.size + size
            if last > end:
                break
            yield msgpack.unpackb(view[first:last])
            start = last
        view[: end - start] = view[start:end]
        start, end = 0, end - start


def flat(bench: Bench, sock: socket.socket, num_streams: int) -> Result:
    tallies = [Tally() for _ in range(num_streams)]

    def read() -> None:
        for calls, token_ids, _texts in frames(sock):
            for call, ids in zip(calls, token_ids, strict=True):
                tally = tallies[call]
                tally.tokens += len(ids)
                tally.chunks += 1

    send(sock, {"streams": num_streams, "prompt": FLAT})
    bench.start_threads([read])
    return rate_result(bench.watch(lambda: sum(tally.tokens for tally in tallies)), tallies)


def paced(bench: Bench, sock: socket.socket) -> Result:
    ages: list[int] = []

    def read() -> None:
        for _calls, token_ids, _texts in frames(sock):
            for (stamped,) in token_ids:
                ages.append(age_us(stamped))

    send(sock, {"streams": bench.settings.streams, "prompt": str(bench.settings.paced_interval)})
    bench.start_threads([read])
    return paced_result(bench.watch(lambda: len(ages)), ages)


def bulk(bench: Bench, sock: socket.socket, num_bytes: int) -> Result:
    count = burst(num_bytes)
    receive_arrays(sock, num_bytes, count)
    received = 0
    meter = Meter(bench.server)
    end = time.perf_counter() + bench.settings.seconds
    while time.perf_counter() < end:
        receive_arrays(sock, num_bytes, count)
        received += num_bytes * count
    return bulk_result(meter.stop(), received)


def receive_vectors(sock: socket.socket, count: int) -> int:
    num_bytes = count * DIMENSIONS * 4
    receive_arrays(sock, num_bytes, 1)
    return num_bytes


def receive_arrays(sock: socket.socket, num_bytes: int, count: int) -> None:
    send(sock, {"nbytes": num_bytes, "count": count})
    for _ in range(count):
        array = np.empty(num_bytes // 4, np.float32)
        view = array.data.cast("B")
        while view:
            view = view[sock.recv_into(view) :]
