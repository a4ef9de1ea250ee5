"""What ``AsyncClient.generate(stream=True)`` gives: an async iterator of chunks that ends the call when it is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from mlxbridge.errors import RemoteProtocolError, UsageError
from mlxbridge.guest.async_link import AsyncLink
from mlxbridge.guest.async_reader import AsyncReader, expire
from mlxbridge.guest.call import TAKE_BATCH, Call, Collector
from mlxbridge.guest.formats import typed
from mlxbridge.types import Chunk, Generation


async def read_all(
    link: AsyncLink, calls: list[Call], timeout: float | None, response_format: Any = None
) -> list[Generation]:
    """The answers of several calls, in their order; raises as ``streams.read_all`` does."""
    streams = [AsyncTokenStream(link, call, timeout, response_format) for call in calls]
    try:
        return await asyncio.gather(*(stream.read() for stream in streams))
    finally:
        for stream in streams:
            await stream.aclose()


class AsyncTokenStream(AsyncReader[Chunk]):
    """Chunks of one answer as they are generated. For one task at a time.

    Leaving the ``async with`` block, ``aclose()``, cancelling the task that reads, or losing the last reference cancels
    the call at the host.
    """

    _last_words = "the stream was closed"

    def __init__(
        self, link: AsyncLink, call: Call, timeout: float | None, response_format: Any = None
    ) -> None:
        super().__init__(link)
        self._call = call
        call.news = self._waiter.wake
        self._collector = Collector(call)
        self._response_format = response_format
        self._generation: Generation | None = None
        if timeout is not None:
            self._timer = link.loop.call_later(timeout, expire, link, call)

    @property
    def _calls(self) -> Iterable[Call]:
        return (self._call,)

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
        self._generation = typed(self._collector.finish(call.result), self._response_format)
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
