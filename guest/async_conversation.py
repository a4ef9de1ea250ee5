"""``AsyncConversation``: a chat that remembers what was said, on an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from mlxbridge.errors import ContextTooLong, UsageError
from mlxbridge.guest.async_streams import AsyncTokenStream
from mlxbridge.guest.formats import TypedGeneration
from mlxbridge.guest.turns import History, Said, Turn
from mlxbridge.types import CallOptions, Chunk, Generation, TokenizeOptions

if TYPE_CHECKING:
    from mlxbridge.guest.client import AsyncClient

T = TypeVar("T")


class AsyncConversation(History):
    """As ``Conversation``; made by ``AsyncClient.conversation``. For one task at a time."""

    _MAY_WAIT = True

    def __init__(self, client: AsyncClient, **settings: Any) -> None:
        super().__init__(**settings)
        self._client = client

    @overload
    async def say(
        self, text: Said | None = None, *, response_format: type[T], **options: Unpack[CallOptions]
    ) -> TypedGeneration[T]: ...

    @overload
    async def say(
        self, text: Said | None = None, *, response_format: Any = None, **options: Unpack[CallOptions]
    ) -> Generation: ...

    async def say(
        self, text: Said | None = None, *, response_format: Any = None, **options: Unpack[CallOptions]
    ) -> Generation:
        """Say something; the answer. Arguments and errors as for ``Conversation.say``."""
        return await (await self.stream(text, response_format=response_format, **options)).read()

    async def stream(
        self, text: Said | None = None, *, response_format: Any = None, **options: Unpack[CallOptions]
    ) -> AsyncConversationStream:
        """As ``say``, with the answer as it comes."""
        stream = AsyncConversationStream(self._client, self._begin(text, options, response_format))
        await stream.ask()
        return stream

    async def count_tokens(self, **options: Unpack[TokenizeOptions]) -> int:
        """Tokens of all that was said, with what begins an answer."""
        return await self._client.count_tokens(self.messages, **self._counted(options))


class AsyncConversationStream(AsyncIterator[Chunk]):
    """As ``ConversationStream``, for one task at a time."""

    def __init__(self, client: AsyncClient, turn: Turn) -> None:
        self._client = client
        self._turn = turn
        self._is_over = False
        self._is_asked = False  # and not running tools
        self._stream: AsyncTokenStream | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        """The next chunk, waiting for it; raises as ``AsyncTokenStream.__anext__`` does, and then the turn is taken back."""
        while not self._is_over:
            assert self._stream is not None
            try:
                chunk = await anext(self._stream, None)
                if chunk is not None:
                    return chunk
                await self._go_on(self._stream.generation)
            except ContextTooLong:
                if not self._turn.drop_oldest():
                    self._fail()
                    raise
                await self.ask()
            except Exception:
                self._fail()
                raise
            except BaseException:  # the task was cancelled, and with it the call
                self._is_over = True
                self._turn.leave(self.text)
                raise
        raise StopAsyncIteration

    async def ask(self) -> None:
        """Send what was said."""
        try:
            self._stream = await self._client.generate(stream=True, **self._turn.options)
        except BaseException:
            self._fail()
            raise
        self._is_asked = True

    async def _go_on(self, generation: Generation) -> None:
        """Run the tools that were called, and ask again; or end."""
        calls = self._turn.take(generation)
        if calls is None:
            self._is_over = True
            return
        assert self._turn.loop is not None
        self._is_asked = False
        await self._turn.loop.run_side_by_side(calls)
        await self.ask()

    def _fail(self) -> None:
        self._is_over = True
        self._turn.fail()

    @property
    def text(self) -> str:
        """The text of the last answer so far; nothing while tools are run."""
        return self._stream.text if self._is_asked and self._stream is not None else ""

    @property
    def generation(self) -> Generation:
        """The whole last answer, once the iterator is at its end.

        Raises:
            UsageError: it is not.
        """
        if not self._is_over or self._stream is None:
            raise UsageError("the stream has not come to its end; iterate over it first, or call read()")
        return self._stream.generation

    async def read(self) -> Generation:
        """Take all the chunks that are left; the whole last answer."""
        async for _ in self:
            pass
        return self.generation

    async def aclose(self) -> None:
        """End the turn; what had come of the answer is kept."""
        if not self._is_over:
            self._is_over = True
            if self._stream is not None:
                await self._stream.aclose()
            self._turn.leave(self.text)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if not self._is_over:  # the call ends with its own stream
            self._turn.leave(self.text)
