"""Hundreds of streams at once, of a model that costs nothing: none is refused, lost or cut."""

from __future__ import annotations

import asyncio
import json
import resource
import urllib.request
from pathlib import Path

import pytest
import uvloop

from bench.gateway.processes import run_gateway
from bench.gateway.reader import Counter, Server
from bench.wire.meter import Server as FreeModel
from bench.wire.workload import TEXT

NUM_STREAMS = 500
NUM_TOKENS = 20
EVERY_S = 0.1
SPARE_FILES = 200
REQUEST = json.dumps(
    {"model": "demo", "prompt": str(EVERY_S), "stream": True, "max_tokens": 1 << 20}
).encode()


class Stream(Counter):
    """Counts tokens, and keeps what is none."""

    def __init__(self) -> None:
        super().__init__(REQUEST, "/v1/completions")
        self.status = 0
        self.others: list[bytes] = []
        self.is_lost = False

    def take(self, line: bytes) -> None:
        if not self.status:
            self.status = int(line.split()[1])
        elif line.startswith(b"data: "):
            (choice,) = json.loads(line[6:]).get("choices") or [{}]
            if set(choice.get("text", "-").split()) == {TEXT.strip()}:
                self.count += 1
            else:
                self.others.append(line)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True


@pytest.fixture
def many_files() -> None:
    """Each stream is a file here, and two in the gateway; what a shell gives may be 256."""
    wanted = 2 * NUM_STREAMS + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def test_five_hundred_streams_at_once(many_files: None, tmp_path: Path) -> None:
    path = str(tmp_path / "free.sock")
    model = FreeModel("bridge", path)
    try:
        with run_gateway(f"unix://{path}", tmp_path) as (server, _):
            uvloop.run(_read_all(server))
    finally:
        model.stop()
    assert (tmp_path / "gateway.log").read_text() == ""  # where warnings would be


async def _read_all(server: Server) -> None:
    loop = asyncio.get_running_loop()
    streams = []
    async with asyncio.timeout(120):
        for _ in range(NUM_STREAMS):
            _, stream = await loop.create_connection(Stream, "127.0.0.1", server.port)
            streams.append(stream)
        while any(stream.count < NUM_TOKENS and not stream.is_lost for stream in streams):
            await asyncio.sleep(EVERY_S)
        assert {stream.status for stream in streams} == {200}
        assert not [stream.others for stream in streams if stream.others]
        assert not any(stream.is_lost for stream in streams)
        assert await asyncio.to_thread(_requests_under_way, server) == NUM_STREAMS + 1  # with this one
        for stream in streams:
            stream.transport.abort()
        while await asyncio.to_thread(_requests_under_way, server) > 1:
            await asyncio.sleep(EVERY_S)


def _requests_under_way(server: Server) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as response:
        lines = response.read().decode().splitlines()
    (line,) = [line for line in lines if line.startswith("mlxbridge_gateway_requests_under_way ")]
    return float(line.split()[1])
