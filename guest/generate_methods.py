"""The methods of a blocking client that generate text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, cast, overload

from mlxbridge.errors import BridgeError
from mlxbridge.guest.blocking_link import BlockingLink
from mlxbridge.guest.call import Call
from mlxbridge.guest.caller import Caller
from mlxbridge.guest.requests import chat_options, choices, generate_params, refuse_stream
from mlxbridge.guest.retries import is_repeatable
from mlxbridge.guest.streams import TokenStream, read_all
from mlxbridge.types import CallOptions, GenerateOptions, Generation, ManyPrompt, Message, Options, Prompt

if TYPE_CHECKING:
    from mlxbridge.guest.formats import TypedGeneration
    from mlxbridge.guest.outcomes import Outcomes

T = TypeVar("T")


class GenerateMethods:
    """``Client``'s methods that generate text."""

    _caller: Caller

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
        return cast(TokenStream, self.answer(prompt, options, stream=True, n=None))

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
        caller, params = self._caller, generate_params(prompt, options)
        timeout = caller.defaults.timeout(options.get("timeout"))
        form = options.get("response_format")
        retries = caller.defaults.retries("generate", timeout, options.get("retry"))
        if n is not None:
            refuse_stream(n, stream)
            several = choices(params, n)
            return caller.repeat(
                retries,
                lambda: read_all(*caller.open("generate", several, retries), retries.deadline, form),
            )

        def open_stream() -> tuple[BlockingLink, Call]:
            link, (call,) = caller.open("generate", [params], retries)
            return link, call

        def open_again(error: BridgeError) -> tuple[BlockingLink, Call] | None:
            return caller.repeat(retries, open_stream) if caller.pause(retries, error) else None

        link, call = caller.repeat(retries, open_stream)
        answer = TokenStream(
            link,
            call,
            retries.deadline,
            form,
            again=open_again,
            is_seen=stream,
            is_repeatable=is_repeatable(params),
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
        from mlxbridge.guest.many import Many  # loaded where it is used, to make the import cheap
        from mlxbridge.guest.outcomes import Outcomes

        many, timeout = Many(prompts, options), self._caller.defaults.timeout(options.get("timeout"))
        retries = self._caller.defaults.retries("generate_many", timeout)
        return Outcomes(self._caller.connected(retries), many, timeout=timeout, deadline=retries.deadline)
