"""Work of the host that takes long, and tells how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from mlxbridge.types import Progress

T = TypeVar("T")


class Following(Generic[T]):
    """A block in which such work is done; it is cancelled at the end of the block, if it has not ended.

    Iterating over it gives what the host tells, until the work has ended. Who reads slowly is told the latest alone.

    Args:
        work: that is told how far it is by what it is given.
    """

    def __init__(self, work: Callable[[Progress], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self._unread: Mapping[str, Any] | None = None
        self._is_news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._work(self._tell))
        self._task.add_done_callback(lambda _: self._is_news.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Mapping[str, Any]:
        while self._unread is None:
            if self._task.done():
                raise StopAsyncIteration
            await self._is_news.wait()
            self._is_news.clear()
        told, self._unread = self._unread, None
        return told

    def result(self) -> T:
        """What came of it, once it has ended.

        Raises:
            BridgeError: of the host.
        """
        return self._task.result()

    def _tell(self, told: Mapping[str, Any]) -> None:
        self._unread = told
        self._is_news.set()
