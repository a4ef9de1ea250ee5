"""What ``AsyncClient.generate(stream=True)`` gives: an async iterator of chunks that ends the call when it is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType

from mlxbridge.errors import Cancelled, RemoteProtocolError, UsageError
from mlxbridge.guest.async_link import AsyncLink
from mlxbridge.guest.call import TAKE_BATCH, Call, Collector
from mlxbridge.types import Chunk, Generation


async def read_all(link: AsyncLink, calls: list[Call], timeout: float | None) -> list[Generation]:
    """The answers of several calls, in their order; raises as ``streams.read_all`` does."""
    streams = [AsyncTokenStream(link, call, timeout) for call in calls]
    try:
        return await asyncio.gather(*(stream.read() for stream in streams))
    finally:
        for stream in streams:
            await stream.aclose()


class Waiter:
    """Wakes the one task that waits for news of calls, at most once for each time it sleeps."""

    __slots__ = ("_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """There is news; harmless if nobody sleeps."""
        future = self._future
        if future is not None:
            self._future = None
            if not future.done():
                future.set_result(None)

    async def sleep(self) -> None:
        """Return at the next ``wake``. Safe to cancel."""
        if self._future is not None:
            raise UsageError("a stream can be read by one task at a time")
        self._future = self._loop.create_future()
        try:
            await self._future
        finally:
            self._future = None


class AsyncTokenStream(AsyncIterator[Chunk]):
    """Chunks of one answer as they are generated. For one task at a time.

    Leaving the ``async with`` block, ``aclose()``, cancelling the task that reads, or losing the last reference cancels
    the call at the host.
    """

    def __init__(self, link: AsyncLink, call: Call, timeout: float | None) -> None:
        self._link = link
        self._call = call
        self._waiter = Waiter(link.loop)
        call.news = self._waiter.wake
        self._collector = Collector(call)
        self._generation: Generation | None = None
        self._finished = False
        self._timer = None if timeout is None else link.loop.call_later(timeout, expire, link, call)

    def __aiter__(self) -> AsyncTokenStream:
        return self

    async def __anext__(self) -> Chunk:
        """The next chunk, waiting for it.

        Raises:
            DeadlineExceeded: the timeout of the call came first.
            RemoteError, ConnectionLost: what ended the call, after the chunks that came before.
        """
        call = self._call
        if not call.texts or self._finished:
            await self._wait()
        try:
            chunk = self._collector.take()
        except RemoteProtocolError:
            self._close()
            raise
        if call.taken >= TAKE_BATCH:
            self._link.return_credit(call)
        return chunk

    async def _wait(self) -> None:
        """Return when there is a chunk; raise if there will be none."""
        if self._finished:
            raise StopAsyncIteration
        call = self._call
        try:
            if not call.readable:
                await self._waiter.sleep()
        except UsageError:
            raise
        except BaseException:
            self._close()
            raise
        if call.texts:
            return
        self._finish()
        if call.error is not None:
            raise call.error
        assert call.result is not None
        self._generation = self._collector.finish(call.result)
        raise StopAsyncIteration

    @property
    def text(self) -> str:
        """The text so far."""
        return self._collector.text

    @property
    def generation(self) -> Generation:
        """The whole answer, once the iterator is at its end.

        Raises:
            UsageError: it is not.
        """
        if self._generation is None:
            if self._finished:
                raise UsageError(
                    "the stream was closed, or failed, before its end; text has what had come by then"
                )
            raise UsageError("the stream has not come to its end; iterate over it first, or call read()")
        return self._generation

    async def read(self) -> Generation:
        """Take all the chunks that are left; the whole answer."""
        async for _ in self:
            pass
        return self.generation

    async def aclose(self) -> None:
        """Cancel the call if it still runs. Further iteration ends at once."""
        self._close()

    def _close(self) -> None:
        if not self._finished:
            self._finish()
            self._link.give_up(self._call, Cancelled("the stream was closed"))

    def _finish(self) -> None:
        self._finished = True
        if self._timer is not None:
            self._timer.cancel()

    async def __aenter__(self) -> AsyncTokenStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __del__(self) -> None:
        if not self._finished:
            self._finished = True
            if not self._call.ended:
                self._link.drop(self._call)


def expire(link: AsyncLink, call: Call) -> None:
    """The call's time is up."""
    link.give_up(call, call.late())
