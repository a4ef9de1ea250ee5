"""``AsyncClient``: the same client for asyncio (uvloop too)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from math import inf
from time import perf_counter
from types import TracebackType
from typing import Any, Literal, TypeVar, Unpack, overload

from mlxbridge.errors import (
    BridgeError,
    Cancelled,
    ConnectionLost,
    DeadlineExceeded,
    TransportError,
    UsageError,
)
from mlxbridge.events import EventKind
from mlxbridge.guest.async_conversation import AsyncConversation
from mlxbridge.guest.async_link import AsyncLink
from mlxbridge.guest.async_outcomes import AsyncOutcomes
from mlxbridge.guest.async_reader import Waiter, expire
from mlxbridge.guest.async_streams import AsyncTokenStream, read_all
from mlxbridge.guest.async_subscriptions import AsyncEvents
from mlxbridge.guest.call import Call
from mlxbridge.guest.calls import NO_PAYLOADS
from mlxbridge.guest.discovery import Lookups, Search, find_token
from mlxbridge.guest.formats import TypedGeneration
from mlxbridge.guest.many import Many
from mlxbridge.guest.requests import (
    chat_options,
    choices,
    deadline_ms,
    generate_params,
    load_params,
    read_freed,
    read_model,
    read_models,
    read_status,
    refuse_stream,
)
from mlxbridge.guest.retries import Retries, check_retry, is_repeatable
from mlxbridge.guest.subscriptions import subscribe_params
from mlxbridge.guest.tokens import (
    detokenize_params,
    read_count,
    read_text,
    read_token_ids,
    tokenize_params,
)
from mlxbridge.guest.tool_loop import MAX_ROUNDS, ToolLoop
from mlxbridge.guest.turns import WhenFull
from mlxbridge.guest.vectors import WINDOWS, embed_params, read_embeddings, read_ranking, rerank_params
from mlxbridge.progress import showing
from mlxbridge.protocol.events import DataReceived
from mlxbridge.protocol.limits import Windows
from mlxbridge.types import (
    AnyTool,
    CallOptions,
    Embeddings,
    EmbedInput,
    EmbedOptions,
    GenerateOptions,
    Generation,
    KeepAlive,
    ManyPrompt,
    Message,
    ModelInfo,
    Options,
    Progress,
    Prompt,
    Ranking,
    RerankOptions,
    Status,
    TokenizeOptions,
    ToolRun,
)

T = TypeVar("T")
R = TypeVar("R")


class AsyncClient:
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
        self._search = Search(url)
        self._token = find_token(token)
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._retry = check_retry(retry, 0)
        self._link: AsyncLink | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connecting = asyncio.Lock()

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
        return await self.generate(prompt, stream=True, **options)

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
        params, timeout = generate_params(prompt, options), self._limit(options.get("timeout"))
        form = options.get("response_format")
        retries = self._retries("generate", timeout, options.get("retry"))
        if n is not None:
            refuse_stream(n, stream)
            several = choices(params, n)

            async def answer_all(left: float | None) -> list[Generation]:
                return await read_all(*await self._open("generate", several, left), form)

            return await self._repeat(retries, answer_all)

        async def open_stream(left: float | None) -> tuple[AsyncLink, Call, float | None]:
            link, (call,), rest = await self._open("generate", [params], left)
            return link, call, rest

        async def open_again(error: BridgeError) -> tuple[AsyncLink, Call, float | None] | None:
            return await self._repeat(retries, open_stream) if await _pause(retries, error) else None

        answer = AsyncTokenStream(
            *await self._repeat(retries, open_stream),
            form,
            again=open_again,
            is_seen=stream,
            is_repeatable=is_repeatable(params),
        )
        return answer if stream else await answer.read()

    async def generate_many(self, prompts: Iterable[ManyPrompt], **options: Unpack[Options]) -> AsyncOutcomes:
        """Answer many prompts, for work that can wait; arguments and errors as for ``Client.generate_many``."""
        many, timeout = Many(prompts, options), self._limit(options.get("timeout"))
        deadline_ms(timeout)  # refuses what is no timeout
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                link = await self._connected()
        except TimeoutError as error:
            if isinstance(error, BridgeError):
                raise
            raise DeadlineExceeded(f"generate_many: no connection to the host within {timeout:g} s") from None
        outcomes = AsyncOutcomes(link, many, timeout=timeout, deadline=deadline)
        await outcomes.open_calls()
        return outcomes

    async def embed(
        self, inputs: EmbedInput | Iterable[EmbedInput], **options: Unpack[EmbedOptions]
    ) -> Embeddings:
        """Turn each input into a vector; arguments and errors as for ``Client.embed``."""
        params = embed_params(inputs, options)
        return read_embeddings(
            *await self._fetch("embed", params, options.get("timeout"), WINDOWS, retry=options.get("retry"))
        )

    async def rerank(self, query: str, documents: Iterable[str], **options: Unpack[RerankOptions]) -> Ranking:
        """Score each document by how well it answers the query; arguments and errors as for ``Client.rerank``."""
        params = rerank_params(query, documents, options)
        result, _ = await self._fetch("rerank", params, options.get("timeout"), retry=options.get("retry"))
        return read_ranking(result, params["documents"])

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

    async def tokenize(
        self, prompt: str | Sequence[Message], **options: Unpack[TokenizeOptions]
    ) -> list[int]:
        """Token ids of a text or a chat; arguments and errors as for ``Client.tokenize``."""
        params = tokenize_params(prompt, options)
        return read_token_ids(await self._ask("tokenize", params, options.get("timeout")))

    async def count_tokens(self, prompt: str | Sequence[Message], **options: Unpack[TokenizeOptions]) -> int:
        """How many they are; arguments and errors as for ``Client.tokenize``."""
        params = tokenize_params(prompt, options, count_only=True)
        return read_count(await self._ask("tokenize", params, options.get("timeout")))

    async def detokenize(
        self,
        token_ids: Iterable[int],
        *,
        model: str | None = None,
        skip_special_tokens: bool = False,
        keep_alive: KeepAlive | None = None,
        timeout: float | None = None,
    ) -> str:
        """The text of tokens; arguments and errors as for ``Client.detokenize``."""
        params = detokenize_params(token_ids, model, skip_special_tokens, keep_alive)
        return read_text(await self._ask("detokenize", params, timeout))

    async def list_models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """The models this host serves."""
        return read_models(await self._ask("models", {}, timeout))

    async def load_model(
        self,
        model: str,
        *,
        progress: Progress | bool | None = None,
        keep_alive: KeepAlive | None = None,
        timeout: float | None = None,
    ) -> ModelInfo:
        """Load a model, or wait until it is loaded."""
        with showing(progress, model) as tell:
            return read_model(await self._ask("load", load_params(model, keep_alive), timeout, tell))

    async def unload_model(self, model: str, *, timeout: float | None = None) -> ModelInfo:
        """Give a model's memory back; it is loaded again when it is next asked for."""
        return read_model(await self._ask("unload", {"model": model}, timeout))

    async def show_model(self, model: str, *, timeout: float | None = None) -> ModelInfo:
        """What a model's files say; see ``Client.show_model``."""
        return read_model(await self._ask("show", {"model": model}, timeout))

    async def pull_model(
        self, model: str, *, progress: Progress | bool | None = None, timeout: float | None = None
    ) -> ModelInfo:
        """Have the host download a model; arguments and errors as for ``Client.pull_model``. Cancelling ends the download."""
        with showing(progress, model) as tell:
            return read_model(await self._ask("pull", {"model": model}, timeout, tell))

    async def delete_model(self, model: str, *, force: bool = False, timeout: float | None = None) -> int:
        """Delete a model that was pulled; arguments and errors as for ``Client.delete_model``."""
        return read_freed(await self._ask("delete", {"model": model, "force": force}, timeout))

    async def status(self, *, timeout: float | None = None) -> Status:
        """What the host is doing."""
        return read_status(await self._ask("status", {}, timeout))

    async def subscribe(
        self, events: Iterable[EventKind] | None = None, *, timeout: float | None = None
    ) -> AsyncEvents:
        """What happens on the host, from now on; arguments and errors as for ``Client.subscribe``."""
        params = [subscribe_params(events)]
        link, (call,), left = await self._repeat(
            self._retries("subscribe", timeout), lambda left: self._open("subscribe", params, left)
        )
        return AsyncEvents(link, call, left)

    async def ping(self, *, timeout: float | None = 5.0) -> float:
        """Seconds to the host's connection and back."""
        deadline_ms(timeout)  # refuses what is no timeout
        try:
            async with asyncio.timeout(timeout):
                link = await self._connected()
                start = perf_counter()
                await link.ping()
        except TimeoutError as error:
            if isinstance(error, DeadlineExceeded):
                raise
            raise DeadlineExceeded(f"ping: no answer within {timeout:g} s") from None
        return perf_counter() - start

    @property
    def address(self) -> str | None:
        """Where the connection leads, None before the first call."""
        return None if self._link is None else self._link.address

    async def close(self) -> None:
        """Cancel what runs and close the connection. The client cannot be used again."""
        self._closed = True
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ------------------------------------------------------------------------------------------------------------

    async def _connected(self) -> AsyncLink:
        if self._closed:
            raise UsageError("this client is closed; make a new one")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # the first use, or the client outlived its loop and with it its link
            self._loop, self._link, self._connecting = loop, None, asyncio.Lock()
        if self._link is not None and self._link.usable:
            return self._link
        async with self._connecting:
            if self._link is None or not self._link.usable:
                self._link = await self._reconnect(self._link)
            return self._link

    async def _reconnect(self, before: AsyncLink | None) -> AsyncLink:
        try:
            return await self._connect()
        except TransportError as error:
            if before is not None and before.goaway is not None:  # it said why nobody is there now
                raise before.goaway from error
            raise

    async def _connect(self) -> AsyncLink:
        failures = []
        for place in self._search.places():
            if isinstance(place, Lookups):
                await _wait(place)
                continue
            failure = place.failure
            if failure is None:
                link = AsyncLink(place.address, self._token)
                try:
                    await link.connect(place.address, min(self._connect_timeout, place.within_s or inf))
                    return link
                except TransportError as error:
                    failure = error
            failures.append((place, failure))
        raise self._search.nothing_answered(failures)

    def _limit(self, timeout: float | None) -> float | None:
        """Seconds for a call: the client's own where the call names none."""
        return self._timeout if timeout is None else timeout

    async def _open(
        self,
        method: str,
        params: Sequence[Mapping[str, Any]],
        timeout: float | None,
        windows: Windows = NO_PAYLOADS,
    ) -> tuple[AsyncLink, list[Call], float | None]:
        budget_ms = deadline_ms(timeout)
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            async with asyncio.timeout(timeout):
                link = await self._connected()
                try:
                    calls = await link.open(method, params, windows, budget_ms)
                except ConnectionLost:  # the host went away since the last call; this one was not started
                    link = await self._connected()
                    calls = await link.open(method, params, windows, budget_ms)
        except TimeoutError as error:
            if isinstance(error, DeadlineExceeded):
                raise
            raise DeadlineExceeded(f"{method}: no call could be opened within {timeout:g} s") from None
        return link, calls, None if timeout is None else max(0.0, timeout - (loop.time() - start))

    async def _ask(
        self, method: str, params: Mapping[str, Any], timeout: float | None, progress: Progress | None = None
    ) -> Mapping[str, Any]:
        return (await self._fetch(method, params, timeout, progress=progress))[0]

    async def _fetch(
        self,
        method: str,
        params: Mapping[str, Any],
        timeout: float | None,
        windows: Windows = NO_PAYLOADS,
        progress: Progress | None = None,
        retry: int | None = None,
    ) -> tuple[Mapping[str, Any], list[DataReceived]]:
        return await self._repeat(
            self._retries(method, self._limit(timeout), retry),
            lambda left: self._fetch_once(method, params, left, windows, progress),
        )

    def _retries(self, method: str, timeout: float | None, retry: int | None = None) -> Retries:
        deadline_ms(timeout)  # refuses what is no timeout
        return Retries(method, check_retry(retry, self._retry), timeout)

    async def _repeat(self, retries: Retries, work: Callable[[float | None], Awaitable[R]]) -> R:
        """What ``work`` gives, which takes the seconds that are left, as often as it may be begun."""
        while True:
            try:
                return await work(retries.begin())
            except BridgeError as error:
                if not await _pause(retries, error):
                    raise

    async def _fetch_once(
        self,
        method: str,
        params: Mapping[str, Any],
        timeout: float | None,
        windows: Windows,
        progress: Progress | None,
    ) -> tuple[Mapping[str, Any], list[DataReceived]]:
        payloads: list[DataReceived] = []
        link, (call,), left = await self._open(method, [params], timeout, windows)
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


async def _pause(retries: Retries, error: BridgeError) -> bool:
    """Wait until a call is to be begun again; whether it is."""
    pause_s = retries.pause_s(error)
    if pause_s is not None:
        await asyncio.sleep(pause_s)
    return pause_s is not None


async def _wait(lookups: Lookups) -> None:
    futures = [asyncio.wrap_future(found) for found in lookups.found.values()]
    await asyncio.wait(futures, timeout=lookups.within_s)
    for future in futures:
        if not future.cancel():
            future.exception()  # whoever asks for the place tells it; asyncio would complain that nobody did
