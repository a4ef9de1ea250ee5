"""A model's way to being ready: one for all who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from mlxbridge.errors import BridgeError

Progress = Callable[[Mapping[str, Any]], object]
"""Takes what is told while a model is loaded, such as ``{"stage": "loading"}``."""


class Attempt:
    """Ends once, well or badly; who asks later learns how.

    Attributes:
        num_waiting: of those who want to know.
    """

    def __init__(self) -> None:
        self.num_waiting = 0
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers: set[Progress] = set()
        self._told: Mapping[str, Any] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._end.done()

    async def wait(self, progress: Progress | None = None) -> None:
        """Until the end. Cancelling it lets the attempt go on.

        Args:
            progress: is told the latest that there was, then whatever comes.

        Raises:
            BridgeError: it has ended badly.
        """
        if self._end.done():
            return self._end.result()
        if progress is not None:
            if self._told is not None:
                progress(self._told)
            self._watchers.add(progress)
        self.num_waiting += 1
        try:
            await asyncio.shield(self._end)
        finally:
            self.num_waiting -= 1
            if progress is not None:
                self._watchers.discard(progress)

    def tell(self, progress: Mapping[str, Any]) -> None:
        """Something has been done of it."""
        self._told = progress
        for watcher in list(self._watchers):
            watcher(progress)

    def forget(self) -> None:
        """What was told counts no more: it begins again."""
        self._told = None

    def succeed(self) -> None:
        """The model is ready; after another end nothing happens."""
        if not self._end.done():
            self._end.set_result(None)

    def fail(self, error: BridgeError) -> None:
        """It will not be; after another end nothing happens."""
        if not self._end.done():
            self._end.set_exception(error)
            self._end.exception()  # retrieved, so that nobody is warned if nobody waits
