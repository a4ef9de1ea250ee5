"""What ``AsyncClient.generate(stream=True)`` gives: an async iterator of chunks that ends the call when it is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from mlxbridge.errors import BridgeError, UsageError
from mlxbridge.guest.async_link import AsyncLink
from mlxbridge.guest.async_reader import AsyncReader, expire
from mlxbridge.guest.call import TAKE_BATCH, Call, Collector, Diverged
from mlxbridge.guest.formats import typed
from mlxbridge.types import Chunk, Generation

Again = Callable[[BridgeError], Awaitable[tuple[AsyncLink, Call, float | None] | None]]
"""Begins a call again that has ended so; None if it is not to be."""


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
        self,
        link: AsyncLink,
        call: Call,
        timeout: float | None,
        response_format: Any = None,
        *,
        again: Again | None = None,
        is_seen: bool = True,
        is_repeatable: bool = False,
    ) -> None:
        super().__init__(link)
        self._again = again
        self._is_seen = is_seen
        self._is_repeatable = is_repeatable
        self._before: Collector | None = (
            None  # what was taken of a call that was begun again, until that is as far
        )
        self._response_format = response_format
        self._generation: Generation | None = None
        self._read_call(link, call, timeout)

    def _read_call(self, link: AsyncLink, call: Call, timeout: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._link, self._call, self._collector = link, call, Collector(call)
        call.news = self._waiter.wake
        self._timer = None if timeout is None else link.loop.call_later(timeout, expire, link, call)

    @property
    def _calls(self) -> Iterable[Call]:
        return (self._call,)

    async def __anext__(self) -> Chunk:
        """The next chunk, waiting for it.

        Raises:
            DeadlineExceeded: the timeout of the call came first.
            RemoteError, ConnectionLost: what ended the call, after the chunks that came before.
        """
        while True:
            if not self._call.texts or self._finished:
                await self._wait()
            try:
                chunk = self._take()
            except BridgeError:
                self._close()
                raise
            if chunk is not None:
                return chunk

    def _take(self) -> Chunk | None:
        """The next chunk; None if the stream has given it before."""
        chunk = self._collector.take()
        if self._call.taken >= TAKE_BATCH:
            self._link.return_credit(self._call)
        if self._before is None:
            return chunk
        try:
            ahead = self._collector.behind(self._before)
        except Diverged:
            raise self._reason from None
        if ahead is not None:
            self._before = None
        return ahead

    async def _begin_again(self) -> bool:
        """Whether the call that has ended was begun again."""
        error = self._call.error
        given = self._before or self._collector
        must_go_on = self._is_seen and given.has_any
        if error is None or self._again is None or (must_go_on and not self._is_repeatable):
            return False
        if (opened := await self._again(error)) is None:
            return False
        self._reason = error
        self._before = given if must_go_on else None
        self._read_call(*opened)
        return True

    async def _wait(self) -> None:
        """Return when there is a chunk; raise if there will be none."""
        if self._finished:
            raise StopAsyncIteration
        try:
            while not self._call.texts:
                if not self._call.readable:
                    await self._waiter.sleep()
                elif not await self._begin_again():
                    break
        except UsageError:
            raise
        except BaseException:
            self._close()
            raise
        call = self._call
        if call.texts:
            return
        self._finish()
        if self._before is not None and call.error is None:
            raise self._reason  # the answer has ended before it came as far as the first one
        if call.error is not None:
            raise call.error
        assert call.result is not None
        self._generation = typed(self._collector.finish(call.result), self._response_format)
        raise StopAsyncIteration

    @property
    def text(self) -> str:
        """The text so far."""
        return (self._before or self._collector).text

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
