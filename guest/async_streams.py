"""What ``AsyncClient.generate(stream=True)`` gives: an async iterator of chunks that ends the call when it is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from mlxbridge.errors import BridgeError, UsageError
from mlxbridge.guest.answer import Answer
from mlxbridge.guest.async_link import AsyncLink
from mlxbridge.guest.async_reader import AsyncReader, expire
from mlxbridge.guest.call import TAKE_BATCH, Call
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
        self._answer = Answer(call, response_format, is_seen=is_seen, is_repeatable=is_repeatable)
        self._read_call(link, call, timeout)

    def _read_call(self, link: AsyncLink, call: Call, timeout: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._link = link
        call.news = self._waiter.wake
        self._timer = None if timeout is None else link.loop.call_later(timeout, expire, link, call)

    @property
    def _calls(self) -> Iterable[Call]:
        return (self._answer.call,)

    async def __anext__(self) -> Chunk:
        """The next chunk, waiting for it.

        Raises:
            DeadlineExceeded: the timeout of the call came first.
            RemoteError, ConnectionLost: what ended the call, after the chunks that came before.
        """
        while True:
            if not self._answer.call.texts or self._finished:
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
        chunk, call = self._answer.take(), self._answer.call
        if call.taken >= TAKE_BATCH:
            self._link.return_credit(call)
        return chunk

    async def _begin_again(self) -> bool:
        """Whether the call that has ended was begun again."""
        error = self._answer.lost
        if error is None or self._again is None or (opened := await self._again(error)) is None:
            return False
        link, call, timeout = opened
        self._answer.begin_again(call)
        self._read_call(link, call, timeout)
        return True

    async def _wait(self) -> None:
        """Return when there is a chunk; raise if there will be none."""
        if self._finished:
            raise StopAsyncIteration
        try:
            while not self._answer.call.texts:
                if not self._answer.call.readable:
                    await self._waiter.sleep()
                elif not await self._begin_again():
                    break
        except UsageError:
            raise
        except BaseException:
            self._close()
            raise
        if self._answer.call.texts:
            return
        self._finish()
        self._answer.finish()
        raise StopAsyncIteration

    @property
    def text(self) -> str:
        """The text so far."""
        return self._answer.text

    @property
    def generation(self) -> Generation:
        """The whole answer, once the iterator is at its end.

        Raises:
            UsageError: it is not.
        """
        return self._answer.generation(is_over=self._finished)

    async def read(self) -> Generation:
        """Take all the chunks that are left; the whole answer."""
        async for _ in self:
            pass
        return self.generation
