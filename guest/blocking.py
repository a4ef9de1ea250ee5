"""``Client``: the blocking client. It owns its socket; the calling threads do the I/O."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic, perf_counter
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
from mlxbridge.guest.blocking_link import BlockingLink
from mlxbridge.guest.call import Call
from mlxbridge.guest.calls import NO_PAYLOADS
from mlxbridge.guest.conversation import Conversation
from mlxbridge.guest.discovery import Search, find_token
from mlxbridge.guest.formats import TypedGeneration
from mlxbridge.guest.many import Many
from mlxbridge.guest.outcomes import Outcomes
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
from mlxbridge.guest.search import try_places
from mlxbridge.guest.streams import TokenStream, deadline_after, read_all
from mlxbridge.guest.subscriptions import Events, subscribe_params
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


class Client:
    """A connection to a host, for any number of threads.

    It connects at the first call. If the link breaks it connects again, and calls go on where they were; they end with
    ``Gone`` if the host has nothing left of them. Once closed it stays closed.

    Args:
        url: one address or a comma list, tried in order; else ``MLXBRIDGE_URL``, else where hosts usually are: sockets, vsock,
            and the names that containers and VMs have for the machine around them, 3 s for all.
        token: ``NAME:SECRET`` or ``SECRET``; else ``MLXBRIDGE_TOKEN`` or ``MLXBRIDGE_TOKEN_FILE``.
        connect_timeout: seconds for each address, and the most for each of the usual places.
        timeout: seconds for each call, where the call names none; None for no limit.
        retry: how often a call is begun again if it ends with an error that is ``retryable``, where the call does not say.

    Example:
        >>> with Client(timeout=60) as client:
        ...     print(client.chat("What is 27 + 15?"))
        27 + 15 = 42.
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
        self._link: BlockingLink | None = None
        self._closed = False
        self._connecting = threading.Lock()
        self._pid = os.getpid()

    @overload
    def generate(
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
    def generate(
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
    def generate(
        self,
        prompt: Prompt | None = None,
        *,
        stream: Literal[False] = False,
        n: None = None,
        **options: Unpack[GenerateOptions],
    ) -> Generation: ...

    @overload
    def generate(
        self,
        prompt: Prompt | None = None,
        *,
        stream: Literal[False] = False,
        n: int,
        **options: Unpack[GenerateOptions],
    ) -> list[Generation]: ...

    @overload
    def generate(
        self, prompt: Prompt | None = None, *, stream: Literal[True], **options: Unpack[GenerateOptions]
    ) -> TokenStream: ...

    def generate(
        self,
        prompt: Prompt | None = None,
        *,
        stream: bool = False,
        n: int | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Any:
        """Answer a prompt or a chat.

        Args:
            prompt: raw text, as in mlx_lm, or token ids; no chat template is put around it.
            stream: give a ``TokenStream`` instead of waiting for the end.
            n: give so many answers to the prompt, which the host reads once. With a seed each answer has its own, the
                first this one. If one fails, so does the whole; for streams open several.
            options: ``mlxbridge.GenerateOptions`` names and explains them.

        Raises:
            UsageError: prompt or messages are missing or malformed, or an option has a wrong name.
            InvalidArgument, Unsupported: the host refuses a parameter; ``details["field"]`` names it.
            ModelNotFound, ContextTooLong, Overloaded, WorkerLost, DeadlineExceeded, TransportError

        Example:
            >>> answer = client.generate("The capital of France is", max_tokens=3)
            >>> answer.text, answer.finish_reason, answer.usage.completion_tokens
            (' Paris', 'length', 3)
            >>> len(client.generate("The ", temperature=1.0, seed=7, n=4, max_tokens=5))
            4
        """
        return self.answer(prompt, options, stream=stream, n=n)

    def stream(self, prompt: Prompt | None = None, **options: Unpack[GenerateOptions]) -> TokenStream:
        """``generate(…, stream=True)``.

        Example:
            >>> with client.stream(messages=[{"role": "user", "content": "What is 27 + 15?"}]) as stream:
            ...     for chunk in stream:
            ...         print(chunk, end="")
            27 + 15 = 42.
            >>> stream.generation.finish_reason
            'stop'
        """
        return self.generate(prompt, stream=True, **options)

    @overload
    def chat(
        self,
        messages: str | Sequence[Message],
        *,
        stream: Literal[False] = False,
        n: None = None,
        response_format: type[T],
        **options: Unpack[CallOptions],
    ) -> TypedGeneration[T]: ...

    @overload
    def chat(
        self,
        messages: str | Sequence[Message],
        *,
        stream: Literal[False] = False,
        n: int,
        response_format: type[T],
        **options: Unpack[CallOptions],
    ) -> list[TypedGeneration[T]]: ...

    @overload
    def chat(
        self,
        messages: str | Sequence[Message],
        *,
        stream: Literal[False] = False,
        n: None = None,
        **options: Unpack[Options],
    ) -> Generation: ...

    @overload
    def chat(
        self,
        messages: str | Sequence[Message],
        *,
        stream: Literal[False] = False,
        n: int,
        **options: Unpack[Options],
    ) -> list[Generation]: ...

    @overload
    def chat(
        self, messages: str | Sequence[Message], *, stream: Literal[True], **options: Unpack[Options]
    ) -> TokenStream: ...

    def chat(
        self,
        messages: str | Sequence[Message],
        *,
        stream: bool = False,
        n: int | None = None,
        **options: Unpack[Options],
    ) -> Any:
        """``generate(messages=…)``; a string is one user message.

        Example:
            >>> print(client.chat("What is the capital of France?"))
            The capital of France is Paris.
            >>> from typing import Literal
            >>> client.chat("What is the capital of France?", response_format=Literal["Berlin", "Paris"]).parsed
            'Paris'
        """
        return self.answer(None, chat_options(messages, options), stream=stream, n=n)

    def answer(
        self, prompt: Prompt | None, options: GenerateOptions, *, stream: bool, n: int | None
    ) -> Generation | list[Generation] | TokenStream:
        """``generate`` for callers that learn only at run time what they ask for."""
        params, timeout = generate_params(prompt, options), self._limit(options.get("timeout"))
        form = options.get("response_format")
        retries = self._retries("generate", timeout, options.get("retry"))
        if n is not None:
            refuse_stream(n, stream)
            several = choices(params, n)
            return self._repeat(retries, lambda left: read_all(*self._open("generate", several, left), form))

        def open_stream(left: float | None) -> tuple[BlockingLink, Call]:
            link, (call,), _ = self._open("generate", [params], left)
            return link, call

        def open_again(error: BridgeError) -> tuple[BlockingLink, Call] | None:
            return self._repeat(retries, open_stream) if _pause(retries, error) else None

        deadline = deadline_after(timeout)
        link, call = self._repeat(retries, open_stream)
        answer = TokenStream(
            link, call, deadline, form, again=open_again, is_seen=stream, is_repeatable=is_repeatable(params)
        )
        return answer if stream else answer.read()

    def generate_many(self, prompts: Iterable[ManyPrompt], **options: Unpack[Options]) -> Outcomes:
        """Answer many prompts, for work that can wait: they fill what is idle of the host, and make way for other calls.

        The input is read as it is needed, some hundred prompts ahead, and so may be a generator of any length.

        Args:
            prompts: each is raw text or token ids, a chat, or a ``mlxbridge.Request`` with options of its own.
            options: for all of them. ``priority`` is "low" if left out; with a ``seed``, prompt i has ``seed + i``;
                ``timeout`` is for all of it.

        Returns:
            An iterator of how each ended, in the order in which they do; one that fails ends no other.

        Raises:
            UsageError: an option has a wrong name, or the prompts are none.
            DeadlineExceeded, TransportError

        Example:
            >>> chats = [[{"role": "user", "content": f"What is {number} + 15?"}] for number in (20, 27, 30)]
            >>> with client.generate_many(chats, max_tokens=20) as outcomes:
            ...     answers = {outcome.index: outcome.text for outcome in outcomes}
            >>> answers[1]
            '27 + 15 = 42.'
        """
        many, timeout = Many(prompts, options), self._limit(options.get("timeout"))
        deadline_ms(timeout)  # refuses what is no timeout
        deadline = deadline_after(timeout)
        return Outcomes(self._connected(deadline), many, timeout=timeout, deadline=deadline)

    def embed(self, inputs: EmbedInput | Iterable[EmbedInput], **options: Unpack[EmbedOptions]) -> Embeddings:
        """Turn each input into a vector; inputs of many calls and guests share the host's batches.

        Args:
            inputs: a text, or token ids; or several, each of either kind.
            options: ``mlxbridge.EmbedOptions`` names and explains them.

        Returns:
            One vector for each input, in their order: ``shape`` is ``(inputs, dimensions)`` for one input and for none, too.
            An empty text is an input like others, if the model's tokenizer adds special tokens; else it is refused.

        Raises:
            UsageError: the inputs are none, or an option has a wrong name.
            InvalidArgument, Unsupported: the host refuses a parameter, or the model embeds nothing; ``details["field"]``
                names it.
            ContextTooLong: an input is over the model's limit; ``details`` has ``field``, ``num_tokens`` and ``max_tokens``.
            ModelNotFound, Overloaded, WorkerLost, DeadlineExceeded, TransportError

        Example:
            >>> found = client.embed(["A cat sleeps.", "Rates rose."], model="all-MiniLM-L6-v2")
            >>> found.shape[0], found.dtype
            (2, 'float32')
            >>> first, second = found.tolist()
        """
        params = embed_params(inputs, options)
        return read_embeddings(
            *self._fetch("embed", params, options.get("timeout"), WINDOWS, retry=options.get("retry"))
        )

    def rerank(self, query: str, documents: Iterable[str], **options: Unpack[RerankOptions]) -> Ranking:
        """Score each document by how well it answers the query, with a model that reads both at once.

        Args:
            query: a text.
            documents: texts.
            options: ``mlxbridge.RerankOptions`` names and explains them.

        Returns:
            The documents, best first; of equal ones the first.

        Raises:
            UsageError: the documents are none, or an option has a wrong name.
            InvalidArgument, Unsupported: the host refuses a parameter, or the model is no reranker; ``details["field"]``
                names it.
            ContextTooLong: a pair is over the model's limit; ``details`` has ``field``, ``num_tokens`` and ``max_tokens``.
            ModelNotFound, Overloaded, WorkerLost, DeadlineExceeded, TransportError

        Example:
            >>> texts = ["A cat sleeps.", "Rates rose.", "It rains."]
            >>> ranking = client.rerank("Who sleeps?", texts, model="ms-marco-MiniLM-L6-v2", top_n=2)
            >>> len(ranking), ranking[0].score >= ranking[1].score
            (2, True)
        """
        params = rerank_params(query, documents, options)
        result, _ = self._fetch("rerank", params, options.get("timeout"), retry=options.get("retry"))
        return read_ranking(result, params["documents"])

    def run_tools(
        self,
        messages: str | Sequence[Message],
        tools: Sequence[AnyTool],
        *,
        max_rounds: int = MAX_ROUNDS,
        raise_errors: bool = False,
        **options: Unpack[CallOptions],
    ) -> ToolRun:
        """``chat``, with the tools that the model calls run, and asked again with what they return until it calls none.

        Args:
            messages: a chat; a string is one user message.
            tools: Python functions with type hints, or ``mlxbridge.Tool`` objects.
            max_rounds: answers with calls that are run; the next one is the last, whatever it wants.
            raise_errors: raise what a tool raises. Else the model is told, as it is of a tool that there is not and of wrong
                arguments, and may try again.
            options: ``timeout`` is for each answer. A ``tool_choice`` that makes a call sure is for the first one.

        Returns:
            The last answer, and the whole chat.

        Raises:
            UsageError: a tool is no function, or a type of its parameters is nothing that JSON has.
            InvalidArgument, Unsupported: see ``generate``; the model may know no tools.

        Example:
            >>> def get_weather(city: str) -> str:
            ...     '''The weather of today.'''
            ...     return f"rain in {city}"
            >>> done = client.run_tools("What is the weather in Tokyo?", [get_weather], model="caller")
            >>> print(done, done.num_rounds)
            It rains in Tokyo. 1
        """
        loop = ToolLoop(
            messages, tools, options, max_rounds=max_rounds, raise_errors=raise_errors, may_wait=False
        )
        while True:
            answer = self.generate(**loop.options)
            calls = loop.take(answer)
            if calls is None:
                return loop.finish(answer)
            loop.run(calls)

    def conversation(
        self,
        *,
        system: str | None = None,
        messages: Sequence[Message] = (),
        tools: Sequence[AnyTool] | None = None,
        when_full: WhenFull = "refuse",
        max_rounds: int = MAX_ROUNDS,
        **options: Unpack[CallOptions],
    ) -> Conversation:
        """A chat that remembers what was said; asks nothing yet.

        Args:
            system: what the model is told before all.
            messages: what was said before.
            tools: what the model may call in every turn. If all are Python functions they are run as by ``run_tools``; else the
                calls are handed out, for ``Conversation.answer_tool``.
            when_full: "refuse": a turn that the context does not hold is ``ContextTooLong``; "drop_oldest": the oldest turns
                are forgotten then, as many as it takes, but never the system message.
            max_rounds: see ``run_tools``.
            options: for all turns.

        Raises:
            UsageError: a tool cannot be run, or an argument is wrong.

        Example:
            >>> talk = client.conversation(system="You answer briefly.", max_tokens=40)
            >>> print(talk.say("What is 27 + 15?"))
            27 + 15 = 42.
        """
        return Conversation(
            self,
            system=system,
            messages=messages,
            tools=tools,
            when_full=when_full,
            max_rounds=max_rounds,
            options=options,
        )

    def tokenize(self, prompt: str | Sequence[Message], **options: Unpack[TokenizeOptions]) -> list[int]:
        """The tokens that a model reads of a text or a chat; the model's tokenizer answers, not the model.

        Args:
            prompt: raw text, as in ``generate``, or messages, which go through the chat template.
            options: ``mlxbridge.TokenizeOptions`` names and explains them.

        Returns:
            Token ids, special tokens among them. Of an embedding model or a reranker: those of the text alone.

        Raises:
            UsageError: it is neither, or an option has a wrong name.
            InvalidArgument, Unsupported: the host refuses a parameter; ``details["field"]`` names it. A call takes
                1,048,576 characters.
            ModelNotFound, Overloaded, WorkerLost, DeadlineExceeded, TransportError

        Example:
            >>> ids = client.tokenize("27 + 15", add_special_tokens=False)
            >>> client.detokenize(ids)
            '27 + 15'
        """
        params = tokenize_params(prompt, options)
        return read_token_ids(self._ask("tokenize", params, options.get("timeout")))

    def count_tokens(self, prompt: str | Sequence[Message], **options: Unpack[TokenizeOptions]) -> int:
        """How many tokens ``tokenize`` would give; of a chat what ``chat`` then has as ``usage.prompt_tokens``.

        Arguments and errors are those of ``tokenize``.

        Example:
            >>> messages = [{"role": "user", "content": "What is 27 + 15?"}]
            >>> client.count_tokens(messages) == client.chat(messages).usage.prompt_tokens
            True
        """
        params = tokenize_params(prompt, options, count_only=True)
        return read_count(self._ask("tokenize", params, options.get("timeout")))

    def detokenize(
        self,
        token_ids: Iterable[int],
        *,
        model: str | None = None,
        skip_special_tokens: bool = False,
        keep_alive: KeepAlive | None = None,
        timeout: float | None = None,
    ) -> str:
        """The text of tokens; bytes that are no whole character become U+FFFD.

        Args:
            token_ids: at most 65,536.
            model: its name at the host; not needed where the host serves one, or has a default.
            skip_special_tokens: leave out BOS, EOS and the like.
            keep_alive: as for ``generate``.
            timeout: seconds.

        Raises:
            UsageError: they are no token ids.
            InvalidArgument: the model has no such token, or they are too many; ``details["field"]`` names it.
            ModelNotFound, Overloaded, WorkerLost, DeadlineExceeded, TransportError

        Example:
            >>> client.detokenize(client.tokenize("Hello"), skip_special_tokens=True)
            'Hello'
        """
        params = detokenize_params(token_ids, model, skip_special_tokens, keep_alive)
        return read_text(self._ask("detokenize", params, timeout))

    def list_models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """The models this host serves, loaded or not.

        Example:
            >>> [model.name for model in client.list_models()]
            ['demo', 'caller', 'all-MiniLM-L6-v2', 'ms-marco-MiniLM-L6-v2']
        """
        return read_models(self._ask("models", {}, timeout))

    def load_model(
        self,
        model: str,
        *,
        progress: Progress | bool | None = None,
        keep_alive: KeepAlive | None = None,
        timeout: float | None = None,
    ) -> ModelInfo:
        """Load a model, or wait until it is loaded.

        Args:
            progress: is told what is done meanwhile, such as ``{"stage": "waiting"}`` while others have the memory; True shows
                that on the terminal, if stderr is one.
            keep_alive: how long it stays loaded after its last call; see ``Options``.

        Raises:
            ModelNotFound, ModelLoadFailed, ModelTooLarge

        Example:
            >>> client.load_model("demo", keep_alive="30m").state
            'ready'
        """
        with showing(progress, model) as tell:
            return read_model(self._ask("load", load_params(model, keep_alive), timeout, tell))

    def unload_model(self, model: str, *, timeout: float | None = None) -> ModelInfo:
        """Give a model's memory back, which ends its calls; it is loaded again when it is next asked for.

        Raises:
            PermissionDenied: the host's configuration keeps it.
            ModelNotFound

        Example:
            >>> client.unload_model("caller").state
            'unloaded'
        """
        return read_model(self._ask("unload", {"model": model}, timeout))

    def show_model(self, model: str, *, timeout: float | None = None) -> ModelInfo:
        """What a model's files say, though it is not loaded.

        ``details`` then has ``architecture``, ``parameters``, ``quantization``, ``context_length``, ``disk_bytes``,
        ``capabilities``, ``licence`` and more; ``disk_bytes`` 0 and nothing else if the files are not on the host.

        Example:
            >>> client.show_model("demo").details["capabilities"]
            ['generate', 'chat']
        """
        return read_model(self._ask("show", {"model": model}, timeout))

    def pull_model(
        self, model: str, *, progress: Progress | bool | None = None, timeout: float | None = None
    ) -> ModelInfo:
        """Have the host download the newest version of a model; it can be used from then on.

        Args:
            model: a Hugging Face id such as ``mlx-community/Qwen3-4B-4bit``.
            progress: is told ``bytes_done`` and ``bytes_total`` meanwhile; True shows a bar on the terminal, if stderr is one.

        Raises:
            PermissionDenied: guests may not do that on this host.
            ModelNotFound, ModelLoadFailed: it cannot be had, or is no model.

        Example:
            >>> client.pull_model("org/demo").state
            'unloaded'
        """
        with showing(progress, model) as tell:
            return read_model(self._ask("pull", {"model": model}, timeout, tell))

    def delete_model(self, model: str, *, force: bool = False, timeout: float | None = None) -> int:
        """Delete the files of a model that was pulled; the bytes that are free then.

        Args:
            force: though it is loaded.

        Raises:
            PermissionDenied: the host's configuration has it, or guests may not do that.
            InvalidArgument: it is loaded.

        Example:
            >>> client.pull_model("org/demo").name
            'org/demo'
            >>> client.delete_model("org/demo") > 1_000_000
            True
        """
        return read_freed(self._ask("delete", {"model": model, "force": force}, timeout))

    def status(self, *, timeout: float | None = None) -> Status:
        """What the host is doing: its models, calls, and memory in bytes.

        Example:
            >>> status = client.status()
            >>> status.connections >= 1, status.memory.total > 0, status.uptime_seconds > 0
            (True, True, True)
        """
        return read_status(self._ask("status", {}, timeout))

    def subscribe(self, events: Iterable[EventKind] | None = None, *, timeout: float | None = None) -> Events:
        """What happens on the host, from now on: models that change their state, and calls that end, first of all.

        Whoever does not read loses the oldest events, and is told how many by a ``LostEvent``.

        Args:
            events: kinds of events, as in ``mlxbridge.events``; all if left out. With "model" among them it begins with
                each model as it is.
            timeout: seconds for all of it; without it there is no end, whatever the client's own timeout.

        Returns:
            An iterator of ``ModelEvent``, ``RequestEvent`` and so on. With tokens it tells of calls and connections with the
            same token alone.

        Raises:
            UsageError: there is no such kind.
            Overloaded, TransportError

        Example:
            >>> with client.subscribe(["model"]) as events:
            ...     event = next(events)
            >>> event.kind, event.model
            ('model', 'demo')
        """
        deadline_ms(timeout)  # refuses what is no timeout
        params = [subscribe_params(events)]
        link, (call,), deadline = self._repeat(
            self._retries("subscribe", timeout), lambda left: self._open("subscribe", params, left)
        )
        return Events(link, call, deadline)

    def ping(self, *, timeout: float | None = 5.0) -> float:
        """Seconds to the host's connection and back.

        Raises:
            DeadlineExceeded, TransportError

        Example:
            >>> 0 < client.ping() < 5
            True
        """
        deadline_ms(timeout)  # refuses what is no timeout
        deadline = deadline_after(timeout)
        link = self._connected(deadline)
        start = perf_counter()
        link.ping(deadline)
        return perf_counter() - start

    @property
    def address(self) -> str | None:
        """Where the connection leads, None before the first call."""
        return None if self._link is None else self._link.address

    def close(self) -> None:
        """Cancel what runs and close the connection. The client cannot be used again.

        Example:
            >>> client = Client()
            >>> client.close()
        """
        self._closed = True
        link, self._link = self._link, None
        if link is not None and link.pid == os.getpid():
            link.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------------

    def _connected(self, deadline: float | None) -> BlockingLink:
        if self._closed:
            raise UsageError("this client is closed; make a new one")
        if self._pid != os.getpid():
            self._after_fork()
        link = self._link
        if link is not None and link.refresh():
            return link
        if not self._connecting.acquire(timeout=-1 if deadline is None else max(0.0, deadline - monotonic())):
            raise DeadlineExceeded("no connection to the host within the timeout")
        try:
            link = self._link
            if link is None or not link.usable:
                self._link = link = self._reconnect(link, deadline)
            return link
        finally:
            self._connecting.release()

    def _after_fork(self) -> None:
        """A child shares its parent's socket, and perhaps a lock that nobody here will open: it starts afresh."""
        link, self._link = self._link, None
        self._connecting = threading.Lock()
        self._pid = os.getpid()
        if link is not None:
            link.abandon()

    def _reconnect(self, before: BlockingLink | None, deadline: float | None) -> BlockingLink:
        try:
            return self._connect(deadline)
        except TransportError as error:
            if before is not None and before.goaway is not None:  # it said why nobody is there now
                raise before.goaway from error
            raise

    def _connect(self, deadline: float | None) -> BlockingLink:
        failures = []
        for trial in try_places(self._search, self._token, timeout=self._connect_timeout, deadline=deadline):
            if trial.link is not None:
                return trial.link
            if trial.failure is not None:
                failures.append((trial.place, trial.failure))
        raise self._search.nothing_answered(failures)

    def _limit(self, timeout: float | None) -> float | None:
        """Seconds for a call: the client's own where the call names none."""
        return self._timeout if timeout is None else timeout

    def _open(
        self,
        method: str,
        params: Sequence[Mapping[str, Any]],
        timeout: float | None,
        windows: Windows = NO_PAYLOADS,
    ) -> tuple[BlockingLink, list[Call], float | None]:
        budget_ms, deadline = deadline_ms(timeout), deadline_after(timeout)
        link = self._connected(deadline)
        try:
            return link, link.open(method, params, windows, budget_ms, deadline), deadline
        except ConnectionLost:  # the host went away since the last call; this one was not started
            link = self._connected(deadline)
            return link, link.open(method, params, windows, budget_ms, deadline), deadline

    def _ask(
        self, method: str, params: Mapping[str, Any], timeout: float | None, progress: Progress | None = None
    ) -> Mapping[str, Any]:
        return self._fetch(method, params, timeout, progress=progress)[0]

    def _fetch(
        self,
        method: str,
        params: Mapping[str, Any],
        timeout: float | None,
        windows: Windows = NO_PAYLOADS,
        progress: Progress | None = None,
        retry: int | None = None,
    ) -> tuple[Mapping[str, Any], list[DataReceived]]:
        """A call's result, and its payloads, which together are no larger than what the caller can hold."""
        return self._repeat(
            self._retries(method, self._limit(timeout), retry),
            lambda left: self._fetch_once(method, params, left, windows, progress),
        )

    def _retries(self, method: str, timeout: float | None, retry: int | None = None) -> Retries:
        deadline_ms(timeout)  # refuses what is no timeout
        return Retries(method, check_retry(retry, self._retry), timeout)

    def _repeat(self, retries: Retries, work: Callable[[float | None], R]) -> R:
        """What ``work`` gives, which takes the seconds that are left, as often as it may be begun."""
        while True:
            try:
                return work(retries.begin())
            except BridgeError as error:
                if not _pause(retries, error):
                    raise

    def _fetch_once(
        self,
        method: str,
        params: Mapping[str, Any],
        timeout: float | None,
        windows: Windows,
        progress: Progress | None,
    ) -> tuple[Mapping[str, Any], list[DataReceived]]:
        payloads: list[DataReceived] = []
        link, (call,), deadline = self._open(method, [params], timeout, windows)
        try:
            while not call.ended or call.items or call.payloads:
                link.wait(call, deadline)
                item = link.take_item(call)
                if item is not None and progress is not None:
                    progress(item)
                if call.payloads:
                    payloads.append(call.payloads.popleft())
        except BaseException:
            link.give_up(call, Cancelled(f"{method} was interrupted"))
            raise
        if call.error is not None:
            raise call.error
        assert call.result is not None
        return call.result, payloads


def _pause(retries: Retries, error: BridgeError) -> bool:
    """Wait until a call is to be begun again; whether it is."""
    pause_s = retries.pause_s(error)
    if pause_s is not None:
        time.sleep(pause_s)
    return pause_s is not None
