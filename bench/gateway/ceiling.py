"""What the gateway itself can do: tokens of a model that costs nothing, beside SSE servers that do nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from bench.gateway.processes import free_port, run_gateway, run_process
from bench.gateway.reader import Server, count
from bench.wire.meter import Server as WireServer
from bench.wire.meter import cpu_seconds_of
from bench.wire.workload import FLAT

CASES = ("gateway", "uvicorn", "aiohttp")
WARM_S = 1.0
BEGIN_S = 60.0

Result = dict[str, float]


def measure(case: str, num_streams: int, seconds: float, folder: Path) -> Result:
    """Start the servers of a case, read all streams as fast as they come, stop.

    Returns:
        tokens_per_s, of all streams; cpu_us, of the process that speaks HTTP, for each token.
    """
    with _serve(case, folder) as (server, pid):
        return uvloop.run(_measure(server, pid, num_streams, seconds))


@contextmanager
def _serve(case: str, folder: Path) -> Iterator[tuple[Server, int]]:
    if case == "gateway":
        path = str(folder / "free.sock")
        host = WireServer("bridge", path)  # the real front of a host, before a model that costs nothing
        try:
            with run_gateway(f"unix://{path}", folder) as running:
                yield running
        finally:
            host.stop()
        return
    server = Server(port=free_port())
    command = ["bench.gateway.bare", case, str(server.port)]
    with run_process(command, folder / f"{case}.log") as process:
        _wait_until_it_listens(server)
        yield server, process.pid


async def _measure(server: Server, pid: int, num_streams: int, seconds: float) -> Result:
    request: dict[str, Any] = {"model": "demo", "prompt": FLAT, "stream": True, "max_tokens": 1 << 20}
    counters = [await count(server, request) for _ in range(num_streams)]
    async with asyncio.timeout(BEGIN_S):
        while not all(each.count for each in counters):  # noqa: ASYNC110  (to wait for them would cost what is measured)
            await asyncio.sleep(0.05)
    await asyncio.sleep(WARM_S)
    first, cpu, start = sum(each.count for each in counters), cpu_seconds_of(pid), time.perf_counter()
    await asyncio.sleep(seconds)
    tokens = sum(each.count for each in counters) - first
    took, used = time.perf_counter() - start, cpu_seconds_of(pid) - cpu
    for each in counters:
        each.transport.abort()
    return {"tokens_per_s": tokens / took, "cpu_us": used / tokens * 1e6}


def _wait_until_it_listens(server: Server) -> None:
    import socket

    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", server.port)).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
