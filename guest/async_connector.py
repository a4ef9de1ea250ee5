"""As ``connector``, on an event loop."""

from __future__ import annotations

import asyncio
from math import inf

from mlxbridge.errors import TransportError
from mlxbridge.guest.async_link import AsyncLink
from mlxbridge.guest.discovery import Lookups
from mlxbridge.guest.link import LinkOwner


class AsyncConnector(LinkOwner[AsyncLink]):
    """For the tasks of one event loop at a time, of which one connects while the others wait."""

    def __init__(self, url: str | None, token: str | None, timeout_s: float) -> None:
        super().__init__(url, token, timeout_s)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connecting = asyncio.Lock()

    async def connected(self) -> AsyncLink:
        """A link that takes calls. Safe to cancel.

        Raises:
            UsageError: the client is closed.
            TransportError: no host was found.
            Unavailable: the host that was there has gone away, and said why.
            AuthenticationError, VersionMismatch: a host answered, and it and this guest do not go together.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # the first use, or the client outlived its loop and with it its link
            self._loop, self._link, self._connecting = loop, None, asyncio.Lock()
        if self._link is not None and self._link.usable:
            return self._link
        async with self._connecting:
            if self._link is None or not self._link.usable:
                with self._explaining():
                    self._link = await self._search_host()
            return self._link

    async def close(self) -> None:
        """Close the link, and make no more."""
        link = self._end()
        if link is not None:
            await link.close()

    async def _search_host(self) -> AsyncLink:
        failures = []
        for place in self._search.places():
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


async def _wait(lookups: Lookups) -> None:
    futures = [asyncio.wrap_future(found) for found in lookups.found.values()]
    await asyncio.wait(futures, timeout=lookups.within_s)
    for future in futures:
        if not future.cancel():
            future.exception()  # whoever asks for the place tells it; asyncio would complain that nobody did
