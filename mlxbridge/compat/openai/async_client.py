"""``AsyncOpenAI``: the same client for asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

from mlxbridge import AsyncClient, AsyncTokenStream
from mlxbridge.compat.openai.async_chat_stream import AsyncChatCompletionStream
from mlxbridge.compat.openai.chat_completion import ChatChunks, chat_completion
from mlxbridge.compat.openai.chat_events import ChatEvents
from mlxbridge.compat.openai.client import Chunks
from mlxbridge.compat.openai.errors import translated
from mlxbridge.compat.openai.lists import embed_plan, embedding_response, model_named, model_page
from mlxbridge.compat.openai.objects import CreateEmbeddingResponse, Model, Object, Page
from mlxbridge.compat.openai.parameters import NOT_GIVEN, NotGiven, Plan, chat_plan, completion_plan
from mlxbridge.compat.openai.parsing import parse_answers
from mlxbridge.compat.openai.resource import Resource
from mlxbridge.compat.openai.settings import Configured, Settings
from mlxbridge.compat.openai.text_completion import CompletionChunks, completion
from mlxbridge.compat.openai.timeouts import Timeout
from mlxbridge.types import Generation, ModelInfo


class AsyncOpenAI(Configured):
    """As ``OpenAI``, whose docstrings hold here too, for the tasks of one event loop.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with AsyncOpenAI() as client:
        ...         chat = [{"role": "user", "content": "What is 27 + 15?"}]
        ...         async for chunk in await client.chat.completions.create(model="demo", messages=chat, stream=True):
        ...             print(chunk.choices[0].delta.content or "", end="")
        >>> asyncio.run(main())
        27 + 15 = 42.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | Timeout | None = 600.0,
        max_retries: int = 2,
        _shared: AsyncClient | None = None,
        **settings: Any,
    ) -> None:
        self._settings = Settings(api_key, base_url, timeout, max_retries, settings)
        with translated():
            self._client = _shared or AsyncClient(base_url, token=self._settings.token, retry=max_retries)
        self.chat = AsyncChat(self)
        self.beta = AsyncBeta(self)
        self.completions = AsyncCompletions(self)
        self.embeddings = AsyncEmbeddings(self)
        self.models = AsyncModels(self)

    def with_options(self, **changed: Any) -> AsyncOpenAI:
        """As ``OpenAI.with_options``."""
        shared = self._client if set(changed) <= {"timeout", "max_retries"} else None
        return AsyncOpenAI(**{**self._settings.given, **changed}, _shared=shared)

    copy = with_options

    async def close(self) -> None:
        """Cancel what runs and close the connection."""
        await self._client.close()

    async def __aenter__(self) -> AsyncOpenAI:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ------------------------------------------------------------------------------------------------------------

    async def _answers(self, plan: Plan) -> list[Generation]:
        with translated(plan.names):
            async with AsyncExitStack() as stack:
                if len(plan.prompts) > 1:
                    return [await stream.read() for stream in await self._open(plan, stack)]
                prompt, options = plan.calls()[0]
                if plan.num_choices > 1:
                    return await self._client.generate(prompt, n=plan.num_choices, **options)
                return [await self._client.generate(prompt, **options)]

    async def _stream(self, plan: Plan, chunks: Chunks) -> AsyncStream:
        with translated(plan.names):
            async with AsyncExitStack() as stack:
                streams = await self._open(plan, stack)
                return AsyncStream(streams, chunks, plan.names, stack.pop_all())

    async def _open(self, plan: Plan, stack: AsyncExitStack) -> list[AsyncTokenStream]:
        return [
            await stack.enter_async_context(await self._client.stream(prompt, **options))
            for prompt, options in plan.calls()
        ]


class AsyncStream:
    """Chunks as they come. Leaving the ``async with`` block, ``close()``, or losing the last reference cancels the call."""

    def __init__(
        self,
        streams: Sequence[AsyncTokenStream],
        chunks: Chunks,
        names: Mapping[str, str],
        stack: AsyncExitStack,
    ) -> None:
        self._stack = stack
        self._pieces = _pieces(streams, chunks)
        self._names = names

    def __aiter__(self) -> AsyncIterator[Object]:
        return self

    async def __anext__(self) -> Object:
        """The next chunk; raises openai's errors, after the chunks that came before."""
        try:
            with translated(self._names):
                return await anext(self._pieces)
        except BaseException:
            await self.close()
            raise

    def then(self, close: Callable[[], Awaitable[None]]) -> None:
        """Await this too when the stream has ended or is closed."""
        self._stack.push_async_callback(close)

    async def close(self) -> None:
        """End the call."""
        await self._pieces.aclose()
        await self._stack.aclose()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _pieces(streams: Sequence[AsyncTokenStream], chunks: Chunks) -> AsyncGenerator[Object, None]:
    """Chunks of all streams, taken in turn."""
    for index in range(len(streams)):
        for piece in chunks.begin(index):
            yield piece
    live = dict(enumerate(streams))
    while live:
        for index, stream in list(live.items()):
            chunk = await anext(stream, None)
            if chunk is None:
                del live[index]
            more = chunks.finish(index, stream.generation) if chunk is None else chunks.take(index, chunk)
            for piece in more:
                yield piece
    for piece in chunks.end([stream.generation for stream in streams]):
        yield piece


class AsyncChatCompletions(Resource[AsyncOpenAI]):
    """``client.chat.completions``."""

    path = "chat.completions"

    async def create(self, **parameters: Any) -> Any:
        """As ``ChatCompletions.create``."""
        plan = self._client._plan(chat_plan, parameters)
        if plan.is_stream:
            chunks = ChatChunks(plan.model, plan.wants_usage)
            return await self._client._stream(plan, chunks)
        return chat_completion(await self._client._answers(plan))

    async def parse(self, **parameters: Any) -> Any:
        """As ``ChatCompletions.parse``."""
        plan = self._client._plan_whole(parameters)
        with translated(plan.names):
            return parse_answers(plan, await self._client._answers(plan), parameters.get("tools"))

    def stream(self, **parameters: Any) -> AsyncChatCompletionStream:
        """As ``ChatCompletions.stream``: for an ``async with`` block."""
        plan = self._client._plan_events(parameters)
        chunks = ChatChunks(plan.model, plan.wants_usage)
        events = ChatEvents(chunks, plan, parameters.get("tools"))
        return AsyncChatCompletionStream(lambda: self._client._stream(plan, chunks), events)


class AsyncChat(Resource[AsyncOpenAI]):
    """``client.chat``."""

    path = "chat"

    def __init__(self, client: AsyncOpenAI) -> None:
        super().__init__(client)
        self.completions = AsyncChatCompletions(client)


class AsyncBeta(Resource[AsyncOpenAI]):
    """``client.beta``, where ``chat.completions.parse`` once was."""

    path = "beta"

    def __init__(self, client: AsyncOpenAI) -> None:
        super().__init__(client)
        self.chat = client.chat


class AsyncCompletions(Resource[AsyncOpenAI]):
    """``client.completions``."""

    path = "completions"

    async def create(self, **parameters: Any) -> Any:
        """As ``Completions.create``."""
        plan = self._client._plan(completion_plan, parameters)
        if plan.is_stream:
            chunks = CompletionChunks(plan.model, plan.wants_usage, plan.num_choices, plan.echoes)
            return await self._client._stream(plan, chunks)
        return completion(await self._client._answers(plan), plan.num_choices, plan.echoes)


class AsyncEmbeddings(Resource[AsyncOpenAI]):
    """``client.embeddings``."""

    path = "embeddings"

    async def create(self, **parameters: Any) -> CreateEmbeddingResponse:
        """As ``Embeddings.create``."""
        inputs, options, as_base64 = self._client._plan(embed_plan, parameters)
        with translated({"inputs": "input"}):
            return embedding_response(await self._client._client.embed(inputs, **options), as_base64)


class AsyncModels(Resource[AsyncOpenAI]):
    """``client.models``."""

    path = "models"

    def list(self, *, timeout: float | Timeout | NotGiven | None = NOT_GIVEN) -> Paginator:
        """The models of the host: to be awaited for all, or iterated over with ``async for``."""
        return Paginator(lambda: self._known(timeout))

    async def retrieve(self, model: str, *, timeout: float | Timeout | NotGiven | None = NOT_GIVEN) -> Model:
        """As ``Models.retrieve``."""
        with translated():
            return model_named(await self._known(timeout), model)

    async def _known(self, timeout: float | Timeout | NotGiven | None) -> Sequence[ModelInfo]:
        return await self._client._client.list_models(timeout=self._client._settings.timeout_of(timeout))


class Paginator:
    """A list that is asked for when it is awaited or iterated over."""

    def __init__(self, ask: Callable[[], Awaitable[Any]]) -> None:
        self._ask = ask

    def __await__(self) -> Generator[Any, None, Page]:
        return self._page().__await__()

    async def __aiter__(self) -> AsyncIterator[Model]:
        for model in await self._page():
            yield model

    async def _page(self) -> Page:
        with translated():
            return model_page(await self._ask())
