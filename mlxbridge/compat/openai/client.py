"""``OpenAI``: the blocking client."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any

from mlxbridge import Client, TokenStream
from mlxbridge.compat.openai.chat_completion import ChatChunks, chat_completion
from mlxbridge.compat.openai.chat_events import ChatEvents
from mlxbridge.compat.openai.chat_stream import ChatCompletionStream
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

Chunks = ChatChunks | CompletionChunks


class OpenAI(Configured):
    """A connection to a host, with the methods of openai's client.

    Args:
        api_key: the token, ``NAME:SECRET`` or ``SECRET``; else ``MLXBRIDGE_TOKEN``. What begins with ``sk-`` is a key of
            OpenAI's, and no token.
        base_url: mlxbridge's URL, ``unix:///path`` and the like; else ``MLXBRIDGE_URL``, else the usual sockets.
        timeout: seconds for each call, where the call says nothing; None for no limit. Of httpx's ``Timeout`` it is ``read``.
        max_retries: how often to try again what may succeed then, such as when the host's queue is full.
        settings: ``organization`` and ``project``, which change nothing; the others are refused.

    Example:
        >>> client = OpenAI()
        >>> completion = client.chat.completions.create(
        ...     model="demo", messages=[{"role": "user", "content": "What is 27 + 15?"}]
        ... )
        >>> print(completion.choices[0].message.content)
        27 + 15 = 42.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | Timeout | None = 600.0,
        max_retries: int = 2,
        _shared: _Owner | None = None,
        **settings: Any,
    ) -> None:
        self._settings = Settings(api_key, base_url, timeout, max_retries, settings)
        with translated():
            self._owner = _shared or _Owner(Client(base_url, token=self._settings.token, retry=max_retries))
        self._client = self._owner.client
        self.chat = Chat(self)
        self.beta = Beta(self)
        self.completions = Completions(self)
        self.embeddings = Embeddings(self)
        self.models = Models(self)

    def with_options(self, **changed: Any) -> OpenAI:
        """The same client with another ``timeout`` or ``max_retries``, on the same connection; anything else makes a new one."""
        shared = self._owner if set(changed) <= {"timeout", "max_retries"} else None
        return OpenAI(**{**self._settings.given, **changed}, _shared=shared)

    copy = with_options

    def close(self) -> None:
        """Cancel what runs and close the connection."""
        self._client.close()

    def __enter__(self) -> OpenAI:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------------

    def _answers(self, plan: Plan) -> list[Generation]:
        with translated(plan.names), ExitStack() as stack:
            if len(plan.prompts) > 1:
                return [stream.read() for stream in self._open(plan, stack)]
            prompt, options = plan.calls()[0]
            if plan.num_choices > 1:
                return self._client.generate(prompt, n=plan.num_choices, **options)
            return [self._client.generate(prompt, **options)]

    def _stream(self, plan: Plan, chunks: Chunks) -> Stream:
        with translated(plan.names), ExitStack() as stack:
            streams = self._open(plan, stack)
            return Stream(self._owner, streams, chunks, plan.names, stack.pop_all())

    def _open(self, plan: Plan, stack: ExitStack) -> list[TokenStream]:
        return [
            stack.enter_context(self._client.stream(prompt, **options)) for prompt, options in plan.calls()
        ]


class _Owner:
    """Closes the connection once no client and no stream has a use for it: openai's clients need not be closed either."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter may be ending
            self.client.close()


class Stream:
    """Chunks as they come. Leaving the ``with`` block, ``close()``, or losing the last reference cancels the call."""

    def __init__(
        self,
        owner: _Owner,
        streams: Sequence[TokenStream],
        chunks: Chunks,
        names: Mapping[str, str],
        stack: ExitStack,
    ) -> None:
        self._owner = owner
        self._stack = stack
        self._pieces = _pieces(streams, chunks)
        self._names = names

    def __iter__(self) -> Iterator[Object]:
        return self

    def __next__(self) -> Object:
        """The next chunk; raises openai's errors, after the chunks that came before."""
        try:
            with translated(self._names):
                return next(self._pieces)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the call."""
        self._pieces.close()
        self._stack.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _pieces(streams: Sequence[TokenStream], chunks: Chunks) -> Generator[Object, None, None]:
    """Chunks of all streams, taken in turn."""
    for index in range(len(streams)):
        yield from chunks.begin(index)
    live = dict(enumerate(streams))
    while live:
        for index, stream in list(live.items()):
            chunk = next(stream, None)
            if chunk is None:
                del live[index]
                yield from chunks.finish(index, stream.generation)
            else:
                yield from chunks.take(index, chunk)
    yield from chunks.end([stream.generation for stream in streams])


class ChatCompletions(Resource[OpenAI]):
    """``client.chat.completions``."""

    path = "chat.completions"

    def create(self, **parameters: Any) -> Any:
        """Answer a chat.

        Args:
            parameters: openai's: ``model``, ``messages``, ``stream`` and so on; the host's own go into ``extra_body``.

        Returns:
            ``ChatCompletion``; with ``stream=True`` a ``Stream`` of ``ChatCompletionChunk``.

        Raises:
            APIError: one of ``errors``.
        """
        plan = self._client._plan(chat_plan, parameters)
        if plan.is_stream:
            chunks = ChatChunks(plan.model, plan.wants_usage)
            return self._client._stream(plan, chunks)
        return chat_completion(self._client._answers(plan))

    def parse(self, **parameters: Any) -> Any:
        """As ``create``, with a Python type as ``response_format``: ``message.parsed`` is then the object.

        Raises:
            LengthFinishReasonError: ``max_tokens`` cut an answer.
            APIError: one of ``errors``.
        """
        plan = self._client._plan_whole(parameters)
        with translated(plan.names):
            return parse_answers(plan, self._client._answers(plan), parameters.get("tools"))

    def stream(self, **parameters: Any) -> ChatCompletionStream:
        """As ``parse``, with what comes as events: for a ``with`` block.

        Example:
            >>> chat = [{"role": "user", "content": "What is 27 + 15?"}]
            >>> with OpenAI().chat.completions.stream(model="demo", messages=chat) as stream:
            ...     for event in stream:
            ...         if event.type == "content.delta":
            ...             print(event.delta, end="")
            27 + 15 = 42.
            >>> stream.get_final_completion().usage.completion_tokens
            12
        """
        plan = self._client._plan_events(parameters)
        chunks = ChatChunks(plan.model, plan.wants_usage)
        events = ChatEvents(chunks, plan, parameters.get("tools"))
        return ChatCompletionStream(self._client._stream(plan, chunks), events)


class Chat(Resource[OpenAI]):
    """``client.chat``."""

    path = "chat"

    def __init__(self, client: OpenAI) -> None:
        super().__init__(client)
        self.completions = ChatCompletions(client)


class Beta(Resource[OpenAI]):
    """``client.beta``, where ``chat.completions.parse`` once was."""

    path = "beta"

    def __init__(self, client: OpenAI) -> None:
        super().__init__(client)
        self.chat = client.chat


class Completions(Resource[OpenAI]):
    """``client.completions``."""

    path = "completions"

    def create(self, **parameters: Any) -> Any:
        """Go on from a prompt, or several: raw text, without the chat template; arguments and errors as of ``ChatCompletions``.

        Returns:
            ``Completion``; with ``stream=True`` a ``Stream`` of the same.
        """
        plan = self._client._plan(completion_plan, parameters)
        if plan.is_stream:
            chunks = CompletionChunks(plan.model, plan.wants_usage, plan.num_choices, plan.echoes)
            return self._client._stream(plan, chunks)
        return completion(self._client._answers(plan), plan.num_choices, plan.echoes)


class Embeddings(Resource[OpenAI]):
    """``client.embeddings``."""

    path = "embeddings"

    def create(self, **parameters: Any) -> CreateEmbeddingResponse:
        """Turn each ``input`` into a vector of length 1; errors as of ``ChatCompletions``."""
        inputs, options, as_base64 = self._client._plan(embed_plan, parameters)
        with translated({"inputs": "input"}):
            return embedding_response(self._client._client.embed(inputs, **options), as_base64)


class Models(Resource[OpenAI]):
    """``client.models``."""

    path = "models"

    def list(self, *, timeout: float | Timeout | NotGiven | None = NOT_GIVEN) -> Page:
        """The models of the host."""
        with translated():
            return model_page(self._known(timeout))

    def retrieve(self, model: str, *, timeout: float | Timeout | NotGiven | None = NOT_GIVEN) -> Model:
        """One of them, by name or alias.

        Raises:
            NotFoundError: there is none.
        """
        with translated():
            return model_named(self._known(timeout), model)

    def _known(self, timeout: float | Timeout | NotGiven | None) -> Sequence[ModelInfo]:
        return self._client._client.list_models(timeout=self._client._settings.timeout_of(timeout))
