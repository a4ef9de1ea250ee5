"""A TCP proxy that does to its connections what networks do: it cuts, stalls, trickles and changes bytes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

CHUNK_BYTES = 4096
TRICKLE_BYTES = 7
LONGEST_STALL_S = 0.2


class Pipe:
    """One direction of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.flips = 0  # bytes that are still to be changed
        self.trickles = 0  # chunks that are still to go byte by byte
        self.may_flow = asyncio.Event()
        self.may_flow.set()

    async def run(self, pick: random.Random) -> None:
        while data := bytearray(await self._reader.read(CHUNK_BYTES)):
            await self.may_flow.wait()
            if self.flips:
                self.flips -= 1
                data[pick.randrange(len(data))] ^= 1 << pick.randrange(8)
            step = TRICKLE_BYTES if self.trickles else len(data)
            self.trickles = max(0, self.trickles - 1)
            for start in range(0, len(data), step):
                self._writer.write(data[start : start + step])
                await self._writer.drain()


class ChaosProxy:
    """Forwards to a host; disturbs when it is told to. Runs in a thread of its own."""

    def __init__(self, host: str, port: int, seed: int) -> None:
        self.did: Counter[str] = Counter()
        self.num_accepted = 0
        self.is_shut = False  # whether it ends new connections at once
        self._target = host, port
        self._pick = random.Random(seed)
        self._links: dict[asyncio.Task[None], tuple[list[Pipe], list[asyncio.StreamWriter]]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self._run(self._listen())
        self.url = f"tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """End every connection, without a word."""
        self._run(self._each(self._cut))

    def disturb(self) -> None:
        """Do something at random to one of the connections."""
        self._run(self._disturb_one())

    def close(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _close(self) -> None:
        self._server.close()
        tasks = list(self._links)
        await self._each(self._cut)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _each(self, act: Callable[[asyncio.Task[None]], None]) -> None:
        for link in list(self._links):
            act(link)

    async def _disturb_one(self) -> None:
        if self._links:
            self._disturb(self._pick.choice(list(self._links)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.num_accepted += 1
        if self.is_shut:
            writer.close()
            return
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        pipes = [Pipe(reader, back), Pipe(there, writer)]
        self._links[task] = pipes, [writer, back]
        running = [asyncio.ensure_future(pipe.run(self._pick)) for pipe in pipes]
        try:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # cut
        finally:
            del self._links[task]
            for pipe in running:
                pipe.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            for end in (writer, back):
                end.close()

    def _cut(self, link: asyncio.Task[None]) -> None:
        self.did["cut"] += 1
        _, writers = self._links[link]
        if self._pick.random() < 0.5:  # a reset, and not an orderly end
            for writer in writers:
                writer.transport.abort()
        link.cancel()

    def _disturb(self, link: asyncio.Task[None]) -> None:
        pipes, _ = self._links[link]
        pipe = self._pick.choice(pipes)
        match self._pick.choice(["cut", "stall", "trickle", "flip"]):
            case "cut":
                self._cut(link)
            case "stall":
                self.did["stall"] += 1
                pipe.may_flow.clear()
                self._loop.call_later(self._pick.uniform(0, LONGEST_STALL_S), pipe.may_flow.set)
            case "trickle":
                self.did["trickle"] += 1
                pipe.trickles += self._pick.randrange(1, 20)
            case "flip":
                self.did["flip"] += 1
                pipe.flips += 1


@contextlib.contextmanager
def chaos_proxy(url: str, seed: int = 0) -> Iterator[ChaosProxy]:
    """A proxy before the host at a ``tcp://`` address."""
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    proxy = ChaosProxy(host, int(port), seed)
    try:
        yield proxy
    finally:
        proxy.close()
