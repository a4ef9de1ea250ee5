"""What ``AsyncClient.subscribe`` gives: an async iterator of events that ends the call when it is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from mlxbridge.events import Event, read_event
from mlxbridge.guest.async_link import AsyncLink
from mlxbridge.guest.async_reader import AsyncReader, expire
from mlxbridge.guest.call import Call


class AsyncEvents(AsyncReader[Event]):
    """What happens on the host, as it does. For one task at a time.

    It ends when the host drains. Leaving the ``async with`` block, ``aclose()``, cancelling the task that reads, or losing
    the last reference ends it too.
    """

    _last_words = "the subscription was closed"

    def __init__(self, link: AsyncLink, call: Call, timeout: float | None) -> None:
        super().__init__(link)
        self._call = call
        call.news = self._waiter.wake
        if timeout is not None:
            self._timer = link.loop.call_later(timeout, expire, link, call)

    @property
    def _calls(self) -> Iterable[Call]:
        return (self._call,)

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
