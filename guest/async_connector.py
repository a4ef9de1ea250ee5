"""As ``connector``, on an event loop."""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic

from mlxbridge.errors import TransportError
from mlxbridge.guest.async_link import AsyncLink
from mlxbridge.guest.discovery import Lookups
from mlxbridge.guest.link import LinkOwner, check_time, late


class AsyncConnector(LinkOwner[AsyncLink]):
    """For the tasks of one event loop at a time, of which one connects while the others wait."""

    def __init__(self, url: str | None, token: str | None, timeout_s: float) -> None:
        super().__init__(url, token, timeout_s)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connecting = asyncio.Lock()

    async def connected(self, deadline: float | None) -> AsyncLink:
        """A link that takes calls. Safe to cancel.

        Args:
            deadline: of ``time.monotonic``.

        Raises:
            UsageError: the client is closed.
            DeadlineExceeded: another task was looking for the host until then.
            TransportError: no host was found, in time.
            Unavailable: the host that was there has gone away, and said why.
            AuthenticationError, VersionMismatch: a host answered, and it and this guest do not go together.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # the first use, or the client outlived its loop and with it its link
            self._loop, self._link, self._connecting = loop, None, asyncio.Lock()
        if self._link is not None and self._link.usable:
            return self._link
        turn = self._connecting
        await _take(turn, deadline)
        try:
            if self._link is None or not self._link.usable:
                with self._explaining():
                    self._link = await self._search_host(deadline)
            return self._link
        finally:
            turn.release()

    async def close(self) -> None:
        """Close the link, and make no more."""
        link = self._end()
        if link is not None:
            await link.close()

    async def _search_host(self, deadline: float | None) -> AsyncLink:
        check_time(deadline)
        failures = []
        for place in self._search.places(deadline):
            if isinstance(place, Lookups):
                await _wait(place)
                continue
            failure = place.failure
            if failure is None:
                link = AsyncLink(place.address, self._token)
                try:
                    await link.connect(place.address, min(self._timeout_s, place.within_s or inf))
                    return link
                except TransportError as error:
                    failure = error
            failures.append((place, failure))
        raise self._search.nothing_answered(failures)


async def _take(turn: asyncio.Lock, deadline: float | None) -> None:
    try:
        async with asyncio.timeout(None if deadline is None else deadline - monotonic()):
            await turn.acquire()
    except TimeoutError:
        raise late() from None


async def _wait(lookups: Lookups) -> None:
    futures = [asyncio.wrap_future(found) for found in lookups.found.values()]
    await asyncio.wait(futures, timeout=lookups.within_s)
    for future in futures:
        if not future.cancel():
            future.exception()  # whoever asks for the place tells it; asyncio would complain that nobody did
