"""As ``caller``, on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from mlxbridge.errors import BridgeError, Cancelled, ConnectionLost, DeadlineExceeded
from mlxbridge.guest.async_connector import AsyncConnector
from mlxbridge.guest.async_link import AsyncLink
from mlxbridge.guest.async_reader import Waiter, expire
from mlxbridge.guest.call import Call
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

    async def open(
        self,
        method: str,
        params: Sequence[Mapping[str, Any]],
        timeout: float | None,
        windows: Windows = NO_PAYLOADS,
    ) -> tuple[AsyncLink, list[Call], float | None]:
        """Start a call for each of ``params``; the link that they run over, and the seconds that are left of ``timeout``.

        Raises:
            UsageError: the timeout is none.
            DeadlineExceeded: no call could be opened in time.
            BridgeError: as ``AsyncConnector.connected`` and ``AsyncLink.open``.
        """
        budget_ms = deadline_ms(timeout)
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            async with asyncio.timeout(timeout):
                link = await self._connector.connected()
                try:
                    calls = await link.open(method, params, windows, budget_ms)
                except ConnectionLost:  # the host went away since the last call; this one was not started
                    link = await self._connector.connected()
                    calls = await link.open(method, params, windows, budget_ms)
        except TimeoutError as error:
            if isinstance(error, DeadlineExceeded):
                raise
            raise DeadlineExceeded(f"{method}: no call could be opened within {timeout:g} s") from None
        return link, calls, None if timeout is None else max(0.0, timeout - (loop.time() - start))

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
        return await self.repeat(
            self.defaults.retries(method, self.defaults.timeout(timeout), retry),
            lambda left: self._fetch_once(method, params, left, windows, progress),
        )

    async def repeat(self, retries: Retries, work: Callable[[float | None], Awaitable[R]]) -> R:
        """What ``work`` gives, which takes the seconds that are left, as often as it may be begun."""
        while True:
            try:
                return await work(retries.begin())
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
        timeout: float | None,
        windows: Windows,
        progress: Progress | None,
    ) -> tuple[Mapping[str, Any], list[DataReceived]]:
        payloads: list[DataReceived] = []
        link, (call,), left = await self.open(method, [params], timeout, windows)
        waiter = Waiter(link.loop)
        call.news = waiter.wake
        timer = None if left is None else link.loop.call_later(left, expire, link, call)
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
        return call.result, payloads
