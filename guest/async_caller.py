"""As ``caller``, on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from mlxbridge.call_ids import tell_call_id
from mlxbridge.errors import BridgeError, Cancelled, ConnectionLost, DeadlineExceeded
from mlxbridge.guest.async_connector import AsyncConnector
from mlxbridge.guest.async_link import AsyncLink
from mlxbridge.guest.async_reader import Waiter, expire
from mlxbridge.guest.call import Call, read_request_id
from mlxbridge.guest.calls import NO_PAYLOADS
from mlxbridge.guest.requests import deadline_ms
from mlxbridge.guest.retries import CallDefaults, Retries
from mlxbridge.protocol.events import DataReceived
from mlxbridge.protocol.limits import Windows
from mlxbridge.types import Progress

R = TypeVar("R")


class AsyncCaller:
    """As ``Caller``, for the tasks of one event loop. Cancelling a task that waits for a result cancels the call at the host."""

    def __init__(self, connector: AsyncConnector, defaults: CallDefaults) -> None:
        self._connector = connector
        self.defaults = defaults

    async def connected(self, retries: Retries) -> AsyncLink:
        """A link to the host, which is looked for as long as the call allows; raises as ``Caller.connected``."""
        while True:
            try:
                link = await self._connector.connected(retries.deadline)
            except BridgeError as error:
                pause_s = retries.search_pause_s(error, was_there=self._connector.link is not None)
                if pause_s is None:
                    retries.not_found(error)
                await asyncio.sleep(pause_s)
            else:
                retries.found()
                return link

    async def open(
        self,
        method: str,
        params: Sequence[Mapping[str, Any]],
        retries: Retries,
        windows: Windows = NO_PAYLOADS,
    ) -> tuple[AsyncLink, list[Call]]:
        """Start a call for each of ``params``; the link that they run over, too.

        Raises:
            DeadlineExceeded: there is no time left for it.
            BridgeError: as ``connected`` and ``AsyncLink.open``.
        """
        link = await self.connected(retries)
        try:
            return link, await _open(link, method, params, retries, windows)
        except ConnectionLost:  # the host went away since the last call; this one was not started
            link = await self.connected(retries)
            return link, await _open(link, method, params, retries, windows)

    async def ask(
        self, method: str, params: Mapping[str, Any], timeout: float | None, progress: Progress | None = None
    ) -> Mapping[str, Any]:
        """A call's result, as ``fetch``, where it has no payloads."""
        return (await self.fetch(method, params, timeout, progress=progress))[0]

    async def fetch(
        self,
        method: str,
        params: Mapping[str, Any],
        timeout: float | None,
        windows: Windows = NO_PAYLOADS,
        progress: Progress | None = None,
        retry: int | None = None,
    ) -> tuple[Mapping[str, Any], list[DataReceived]]:
        """A call's result, and its payloads; arguments and errors as for ``Caller.fetch``."""
        retries = self.defaults.retries(method, self.defaults.timeout(timeout), retry)
        return await self.repeat(
            retries, lambda: self._fetch_once(method, params, retries, windows, progress)
        )

    async def repeat(self, retries: Retries, work: Callable[[], Awaitable[R]]) -> R:
        """What ``work`` gives, as often as it may be begun."""
        while True:
            try:
                return await work()
            except BridgeError as error:
                if not await self.pause(retries, error):
                    raise

    async def pause(self, retries: Retries, error: BridgeError) -> bool:
        """Wait until a call that has ended so is to be begun again; whether it is."""
        pause_s = retries.pause_s(error)
        if pause_s is not None:
            await asyncio.sleep(pause_s)
        return pause_s is not None

    async def _fetch_once(
        self,
        method: str,
        params: Mapping[str, Any],
        retries: Retries,
        windows: Windows,
        progress: Progress | None,
    ) -> tuple[Mapping[str, Any], list[DataReceived]]:
        payloads: list[DataReceived] = []
        link, (call,) = await self.open(method, [params], retries, windows)
        waiter = Waiter(link.loop)
        call.news = waiter.wake
        left_s = retries.left_s
        timer = None if left_s is None else link.loop.call_later(left_s, expire, link, call)
        try:
            while not call.ended or call.items or call.payloads:
                if not call.readable:
                    await waiter.sleep()
                if call.items:
                    item = link.take_item(call)
                    if progress is not None:
                        progress(item)
                if call.payloads:
                    payloads.append(call.payloads.popleft())
        except BaseException:
            link.give_up(call, Cancelled(f"{method} was interrupted"))
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if call.error is not None:
            raise call.error
        assert call.result is not None
        tell_call_id(method, read_request_id(call.result))
        return call.result, payloads


async def _open(
    link: AsyncLink, method: str, params: Sequence[Mapping[str, Any]], retries: Retries, windows: Windows
) -> list[Call]:
    timeout = retries.begin()
    try:
        async with asyncio.timeout(retries.left_s):
            return await link.open(method, params, windows, deadline_ms(timeout))
    except TimeoutError as error:
        if isinstance(error, BridgeError):
            raise
        raise DeadlineExceeded(f"{method}: no call could be opened within {timeout:g} s") from None
