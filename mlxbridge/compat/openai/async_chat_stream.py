"""``chat.completions.stream`` of ``AsyncOpenAI``."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mlxbridge.compat.openai.chat_events import ChatEvents
from mlxbridge.compat.openai.errors import translated
from mlxbridge.compat.openai.objects import ChatCompletion, Object, ParsedChatCompletion
from mlxbridge.errors import UsageError

if TYPE_CHECKING:
    from mlxbridge.compat.openai.async_client import AsyncStream


class AsyncChatCompletionStream:
    """As ``ChatCompletionStream``; the call is made where the ``async with`` block begins."""

    def __init__(self, begin: Callable[[], Awaitable[AsyncStream]], events: ChatEvents) -> None:
        self._begin = begin
        self._stream: AsyncStream | None = None
        self._events = events
        self._pending: deque[Object] = deque()

    def __aiter__(self) -> AsyncIterator[Object]:
        return self

    async def __anext__(self) -> Object:
        """As ``ChatCompletionStream.__next__``."""
        if self._stream is None:
            with translated():
                raise UsageError(
                    "the events come within `async with client.chat.completions.stream(…) as stream:`"
                )
        while not self._pending:
            chunk = await anext(self._stream)
            with translated():
                self._pending.extend(self._events.take(chunk))
        return self._pending.popleft()

    @property
    def current_completion_snapshot(self) -> ParsedChatCompletion:
        """What has come so far."""
        return self._events.snapshot

    async def until_done(self) -> Self:
        """Take all events that are left."""
        async for _ in self:
            pass
        return self

    async def get_final_completion(self) -> ChatCompletion:
        """As ``ChatCompletionStream.get_final_completion``."""
        await self.until_done()
        with translated():
            return self._events.finish()

    async def close(self) -> None:
        """End the call."""
        if self._stream is not None:
            await self._stream.close()

    async def __aenter__(self) -> Self:
        self._stream = await self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
