"""As ``generate_methods``, on an event loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar, Unpack, cast, overload

from mlxbridge.errors import BridgeError
from mlxbridge.guest.async_caller import AsyncCaller
from mlxbridge.guest.async_link import AsyncLink
from mlxbridge.guest.async_outcomes import AsyncOutcomes
from mlxbridge.guest.async_streams import AsyncTokenStream, read_all
from mlxbridge.guest.call import Call
from mlxbridge.guest.formats import TypedGeneration
from mlxbridge.guest.many import Many
from mlxbridge.guest.requests import chat_options, choices, generate_params, refuse_stream
from mlxbridge.guest.retries import is_repeatable
from mlxbridge.types import CallOptions, GenerateOptions, Generation, ManyPrompt, Message, Options, Prompt

T = TypeVar("T")


class AsyncGenerateMethods:
    """As ``GenerateMethods``."""

    _caller: AsyncCaller

    @overload
    async def generate(
        self,
        prompt: Prompt | None = None,
        *,
        stream: Literal[False] = False,
        n: None = None,
        messages: Sequence[Message] | None = None,
        response_format: type[T],
        **options: Unpack[CallOptions],
    ) -> TypedGeneration[T]: ...

    @overload
    async def generate(
        self,
        prompt: Prompt | None = None,
        *,
        stream: Literal[False] = False,
        n: int,
        messages: Sequence[Message] | None = None,
        response_format: type[T],
        **options: Unpack[CallOptions],
    ) -> list[TypedGeneration[T]]: ...

    @overload
    async def generate(
        self,
        prompt: Prompt | None = None,
        *,
        stream: Literal[False] = False,
        n: None = None,
        **options: Unpack[GenerateOptions],
    ) -> Generation: ...

    @overload
    async def generate(
        self,
        prompt: Prompt | None = None,
        *,
        stream: Literal[False] = False,
        n: int,
        **options: Unpack[GenerateOptions],
    ) -> list[Generation]: ...

    @overload
    async def generate(
        self, prompt: Prompt | None = None, *, stream: Literal[True], **options: Unpack[GenerateOptions]
    ) -> AsyncTokenStream: ...

    async def generate(
        self,
        prompt: Prompt | None = None,
        *,
        stream: bool = False,
        n: int | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Any:
        """Answer a prompt or a chat; arguments and errors as for ``Client.generate``."""
        return await self.answer(prompt, options, stream=stream, n=n)

    async def stream(
        self, prompt: Prompt | None = None, **options: Unpack[GenerateOptions]
    ) -> AsyncTokenStream:
        """``generate(…, stream=True)``."""
        return cast(AsyncTokenStream, await self.answer(prompt, options, stream=True, n=None))

    @overload
    async def chat(
        self,
        messages: str | Sequence[Message],
        *,
        stream: Literal[False] = False,
        n: None = None,
        response_format: type[T],
        **options: Unpack[CallOptions],
    ) -> TypedGeneration[T]: ...

    @overload
    async def chat(
        self,
        messages: str | Sequence[Message],
        *,
        stream: Literal[False] = False,
        n: int,
        response_format: type[T],
        **options: Unpack[CallOptions],
    ) -> list[TypedGeneration[T]]: ...

    @overload
    async def chat(
        self,
        messages: str | Sequence[Message],
        *,
        stream: Literal[False] = False,
        n: None = None,
        **options: Unpack[Options],
    ) -> Generation: ...

    @overload
    async def chat(
        self,
        messages: str | Sequence[Message],
        *,
        stream: Literal[False] = False,
        n: int,
        **options: Unpack[Options],
    ) -> list[Generation]: ...

    @overload
    async def chat(
        self, messages: str | Sequence[Message], *, stream: Literal[True], **options: Unpack[Options]
    ) -> AsyncTokenStream: ...

    async def chat(
        self,
        messages: str | Sequence[Message],
        *,
        stream: bool = False,
        n: int | None = None,
        **options: Unpack[Options],
    ) -> Any:
        """``generate(messages=…)``; a string is one user message."""
        return await self.answer(None, chat_options(messages, options), stream=stream, n=n)

    async def answer(
        self, prompt: Prompt | None, options: GenerateOptions, *, stream: bool, n: int | None
    ) -> Generation | list[Generation] | AsyncTokenStream:
        """``generate`` for callers that learn only at run time what they ask for."""
        caller, params = self._caller, generate_params(prompt, options)
        timeout = caller.defaults.timeout(options.get("timeout"))
        form = options.get("response_format")
        retries = caller.defaults.retries("generate", timeout, options.get("retry"))
        if n is not None:
            refuse_stream(n, stream)
            several = choices(params, n)

            async def answer_all() -> list[Generation]:
                return await read_all(*await caller.open("generate", several, retries), retries.left_s, form)

            return await caller.repeat(retries, answer_all)

        async def open_stream() -> tuple[AsyncLink, Call, float | None]:
            link, (call,) = await caller.open("generate", [params], retries)
            return link, call, retries.left_s

        async def open_again(error: BridgeError) -> tuple[AsyncLink, Call, float | None] | None:
            return await caller.repeat(retries, open_stream) if await caller.pause(retries, error) else None

        answer = AsyncTokenStream(
            *await caller.repeat(retries, open_stream),
            form,
            again=open_again,
            is_seen=stream,
            is_repeatable=is_repeatable(params),
        )
        return answer if stream else await answer.read()

    async def generate_many(self, prompts: Iterable[ManyPrompt], **options: Unpack[Options]) -> AsyncOutcomes:
        """Answer many prompts, for work that can wait; arguments and errors as for ``Client.generate_many``."""
        many, timeout = Many(prompts, options), self._caller.defaults.timeout(options.get("timeout"))
        retries = self._caller.defaults.retries("generate_many", timeout)
        link = await self._caller.connected(retries)
        left_s = retries.left_s
        deadline = None if left_s is None else link.loop.time() + left_s
        outcomes = AsyncOutcomes(link, many, timeout=timeout, deadline=deadline)
        await outcomes.open_calls()
        return outcomes
