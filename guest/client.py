"""``AsyncClient``: the same client for asyncio (uvloop too)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from time import perf_counter
from types import TracebackType
from typing import Unpack

from mlxbridge.errors import BridgeError
from mlxbridge.events import EventKind
from mlxbridge.guest.async_caller import AsyncCaller
from mlxbridge.guest.async_connector import AsyncConnector
from mlxbridge.guest.async_conversation import AsyncConversation
from mlxbridge.guest.async_generate_methods import AsyncGenerateMethods
from mlxbridge.guest.async_input_methods import AsyncInputMethods
from mlxbridge.guest.async_model_methods import AsyncModelMethods
from mlxbridge.guest.async_subscriptions import AsyncEvents
from mlxbridge.guest.link import ping_late
from mlxbridge.guest.requests import MAX_ROUNDS, read_status
from mlxbridge.guest.retries import CallDefaults
from mlxbridge.guest.subscriptions import subscribe_params
from mlxbridge.guest.tool_loop import ToolLoop
from mlxbridge.guest.turns import WhenFull
from mlxbridge.types import AnyTool, CallOptions, Message, Status, ToolRun


class AsyncClient(AsyncGenerateMethods, AsyncInputMethods, AsyncModelMethods):
    """As ``Client`` (whose docstrings hold here too), for the tasks of one event loop.

    It connects at the first call, and again at the first call after the link was lost. Cancelling a task that waits for
    an answer cancels the call at the host.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with AsyncClient(timeout=60) as client:
        ...         answers = await asyncio.gather(client.chat("What is 27 + 15?"), client.chat("What is 27 + 16?"))
        ...         print(*answers)
        ...         async with await client.chat("What is 27 + 17?", stream=True) as stream:
        ...             async for chunk in stream:
        ...                 print(chunk, end="")
        >>> asyncio.run(main())
        27 + 15 = 42. 27 + 16 = 43.
        27 + 17 = 44.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        connect_timeout: float = 5.0,
        timeout: float | None = None,
        retry: int = 0,
    ) -> None:
        self._connector = AsyncConnector(url, token, connect_timeout)
        self._caller = AsyncCaller(self._connector, CallDefaults(timeout, retry))

    async def run_tools(
        self,
        messages: str | Sequence[Message],
        tools: Sequence[AnyTool],
        *,
        max_rounds: int = MAX_ROUNDS,
        raise_errors: bool = False,
        **options: Unpack[CallOptions],
    ) -> ToolRun:
        """As ``Client.run_tools``; tools may be async functions, and the calls of one answer are run side by side."""
        loop = ToolLoop(
            messages, tools, options, max_rounds=max_rounds, raise_errors=raise_errors, may_wait=True
        )
        while True:
            answer = await self.generate(**loop.options)
            calls = loop.take(answer)
            if calls is None:
                return loop.finish(answer)
            await loop.run_side_by_side(calls)

    def conversation(
        self,
        *,
        system: str | None = None,
        messages: Sequence[Message] = (),
        tools: Sequence[AnyTool] | None = None,
        when_full: WhenFull = "refuse",
        max_rounds: int = MAX_ROUNDS,
        **options: Unpack[CallOptions],
    ) -> AsyncConversation:
        """A chat that remembers what was said; arguments and errors as for ``Client.conversation``."""
        return AsyncConversation(
            self,
            system=system,
            messages=messages,
            tools=tools,
            when_full=when_full,
            max_rounds=max_rounds,
            options=options,
        )

    async def status(self, *, timeout: float | None = None) -> Status:
        """What the host is doing."""
        return read_status(await self._caller.ask("status", {}, timeout))

    async def subscribe(
        self, events: Iterable[EventKind] | None = None, *, timeout: float | None = None
    ) -> AsyncEvents:
        """What happens on the host, from now on; arguments and errors as for ``Client.subscribe``."""
        params = [subscribe_params(events)]
        retries = self._caller.defaults.retries("subscribe", timeout)
        link, (call,) = await self._caller.repeat(
            retries, lambda: self._caller.open("subscribe", params, retries)
        )
        return AsyncEvents(link, call, retries.left_s)

    async def ping(self, *, timeout: float | None = None) -> float:
        """Seconds to the host's connection and back; ``timeout`` as for ``Client.ping``."""
        retries = self._caller.defaults.ping_retries(timeout)

        async def ping_once() -> float:
            link = await self._caller.connected(retries)
            start = perf_counter()
            try:
                async with asyncio.timeout(retries.left_s):
                    await link.ping()
            except TimeoutError as error:
                if isinstance(error, BridgeError):
                    raise
                raise ping_late() from None
            return perf_counter() - start

        return await self._caller.repeat(retries, ping_once)

    @property
    def address(self) -> str | None:
        """Where the connection leads, None before the first call."""
        return self._connector.address

    async def close(self) -> None:
        """Cancel what runs and close the connection. The client cannot be used again."""
        await self._connector.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
