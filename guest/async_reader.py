"""As ``reader``, on an event loop."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from mlxbridge.errors import Cancelled, UsageError
from mlxbridge.guest.async_link import AsyncLink
from mlxbridge.guest.call import Call

T = TypeVar("T")


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


class AsyncReader(AsyncIterator[T]):
    """Reads what calls bring. For one task at a time.

    Leaving the ``async with`` block, ``aclose()``, cancelling the task that reads, or losing the last reference cancels
    the calls at the host.
    """

    _last_words: ClassVar[str]
    """What ended the calls, for their error."""

    def __init__(self, link: AsyncLink) -> None:
        self._link = link
        self._waiter = Waiter(link.loop)
        self._timer: asyncio.TimerHandle | None = None
        self._finished = False

    @property
    @abstractmethod
    def _calls(self) -> Iterable[Call]:
        """Those that end with it."""

    def __aiter__(self) -> Self:
        return self

    async def aclose(self) -> None:
        """Cancel what still runs. Further iteration ends at once."""
        self._close()

    def _close(self) -> None:
        if not self._finished:
            self._finish()
            for call in self._calls:
                self._link.give_up(call, Cancelled(self._last_words))

    def _finish(self) -> None:
        self._finished = True
        if self._timer is not None:
            self._timer.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __del__(self) -> None:
        if not self._finished:
            for call in self._calls:
                if not call.ended:
                    self._link.drop(call)


def expire(link: AsyncLink, call: Call) -> None:
    """The call's time is up."""
    link.give_up(call, call.late())
