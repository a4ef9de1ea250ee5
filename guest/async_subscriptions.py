"""What ``AsyncClient.subscribe`` gives: an async iterator of events that ends the call when it is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType

from mlxbridge.errors import Cancelled
from mlxbridge.events import Event, read_event
from mlxbridge.guest.async_link import AsyncLink
from mlxbridge.guest.async_streams import Waiter, expire
from mlxbridge.guest.call import Call


class AsyncEvents(AsyncIterator[Event]):
    """What happens on the host, as it does. For one task at a time.

    It ends when the host drains. Leaving the ``async with`` block, ``aclose()``, cancelling the task that reads, or losing
    the last reference ends it too.
    """

    def __init__(self, link: AsyncLink, call: Call, timeout: float | None) -> None:
        self._link = link
        self._call = call
        self._waiter = Waiter(link.loop)
        call.news = self._waiter.wake
        self._timer: asyncio.TimerHandle | None = None
        if timeout is not None:
            self._timer = link.loop.call_later(timeout, expire, link, call)
        self._finished = False

    def __aiter__(self) -> AsyncEvents:
        return self

    async def __anext__(self) -> Event:
        """The next event, waiting for it; raises as ``Events.__next__`` does."""
        while not self._finished:
            if not self._call.readable:
                try:
                    await self._waiter.sleep()
                except asyncio.CancelledError:
                    self._close()
                    raise
            if self._call.items:
                event = read_event(self._link.take_item(self._call))
                if event is not None:
                    return event
            elif self._call.ended:
                self._finish()
                if self._call.error is not None:
                    raise self._call.error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the subscription. Further iteration ends at once."""
        self._close()

    def _close(self) -> None:
        if not self._finished:
            self._finish()
            self._link.give_up(self._call, Cancelled("the subscription was closed"))

    def _finish(self) -> None:
        self._finished = True
        if self._timer is not None:
            self._timer.cancel()

    async def __aenter__(self) -> AsyncEvents:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __del__(self) -> None:
        if not self._finished and not self._call.ended:
            self._link.drop(self._call)
