"""Whoever asks for metrics, over a real socket, and does not behave."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from mlxbridge.addresses import parse_listen
from mlxbridge.host.telemetry import scrape as scrape_module
from mlxbridge.host.telemetry.scrape import MAX_CONNECTIONS, Scrape

ASK = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = b"x 1\n" * (1 << 20)  # more than a socket holds


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[str]:
    async def render() -> bytes:
        return BODY

    scrape, path = Scrape(render), str(folder / "m")
    await scrape.listen(parse_listen(f"unix:{path}"))
    try:
        yield path
    finally:
        scrape.close()


async def ask(path: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(ASK)
    answer = await reader.read()
    writer.close()
    return answer


async def test_large_answer_comes_whole(tmp_path: Path) -> None:
    async with serving(tmp_path) as path:
        head, _, body = (await ask(path)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and f"Content-Length: {len(BODY)}".encode() in head
    assert body == BODY


async def test_who_does_not_read_is_cut_off_and_keeps_nobodys_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrape_module, "TIMEOUT_S", 0.1)
    with ExitStack() as stack:
        async with serving(tmp_path) as path:
            for _ in range(MAX_CONNECTIONS):
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.connect(path)
                sock.sendall(ASK)
                hung_up = select.poll()
                hung_up.register(sock, 0)
                assert await asyncio.to_thread(hung_up.poll, 30_000) == [(sock.fileno(), select.POLLHUP)]
            monkeypatch.setattr(scrape_module, "TIMEOUT_S", 60.0)
            assert (await ask(path)).endswith(BODY)
