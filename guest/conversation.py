"""``Conversation``: a chat that remembers what was said."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from mlxbridge.errors import ContextTooLong, UsageError
from mlxbridge.guest.formats import TypedGeneration
from mlxbridge.guest.streams import TokenStream
from mlxbridge.guest.turns import History, Said, Turn
from mlxbridge.types import CallOptions, Chunk, Generation, TokenizeOptions

if TYPE_CHECKING:
    from mlxbridge.guest.blocking import Client

T = TypeVar("T")


class Conversation(History):
    """A chat that keeps its messages; made by ``Client.conversation``. For one thread at a time.

    A turn that fails, for want of room in the context (``ContextTooLong``) for one, leaves the messages as they were before.
    Of an answer whose stream was closed early is kept what had come; if that is nothing, the turn is taken back.

    Example:
        >>> talk = client.conversation(system="You answer briefly.", max_tokens=40)
        >>> print(talk.say("What is 27 + 15?"))
        27 + 15 = 42.
        >>> print(talk.say("What is the capital of France?"))
        The capital of France is Paris.
        >>> [message["role"] for message in talk.messages]
        ['system', 'user', 'assistant', 'user', 'assistant']
    """

    _MAY_WAIT = False

    def __init__(self, client: Client, **settings: Any) -> None:
        super().__init__(**settings)
        self._client = client

    @overload
    def say(
        self, text: Said | None = None, *, response_format: type[T], **options: Unpack[CallOptions]
    ) -> TypedGeneration[T]: ...

    @overload
    def say(
        self, text: Said | None = None, *, response_format: Any = None, **options: Unpack[CallOptions]
    ) -> Generation: ...

    def say(
        self, text: Said | None = None, *, response_format: Any = None, **options: Unpack[CallOptions]
    ) -> Generation:
        """Say something; the answer. Both are then part of the conversation.

        Args:
            text: what the user says; None goes on after ``answer_tool``.
            response_format: what this answer has to keep to, see ``Options``; not with tools.
            options: for this turn, in place of the conversation's own.

        Returns:
            The answer; after calls of tools that are Python functions, which are run, the one after them. Of a conversation
            whose tools are schemas it may have ``tool_calls`` instead, for ``answer_tool``.

        Raises:
            ContextTooLong: the conversation does not fit any more.
            UsageError, InvalidArgument, Unsupported, and the rest: see ``Client.generate``.

        Example:
            >>> talk = client.conversation()
            >>> talk.say("What is the capital of France?", response_format=list[str], max_tokens=1).finish_reason
            'length'
        """
        return self.stream(text, response_format=response_format, **options).read()

    def stream(
        self, text: Said | None = None, *, response_format: Any = None, **options: Unpack[CallOptions]
    ) -> ConversationStream:
        """As ``say``, with the answer as it comes.

        Example:
            >>> talk = client.conversation()
            >>> with talk.stream("What is 27 + 15?") as stream:
            ...     print("".join(map(str, stream)))
            27 + 15 = 42.
        """
        return ConversationStream(self._client, self._begin(text, options, response_format))

    def count_tokens(self, **options: Unpack[TokenizeOptions]) -> int:
        """Tokens of all that was said, with what begins an answer; see ``Client.count_tokens``.

        Example:
            >>> talk = client.conversation()
            >>> talk.say("What is 27 + 15?").usage.prompt_tokens < talk.count_tokens()
            True
        """
        return self._client.count_tokens(self.messages, **self._counted(options))


class ConversationStream(Iterator[Chunk]):
    """The answer of a turn as it is generated, with what the model writes before and after calls of tools; as ``TokenStream``."""

    def __init__(self, client: Client, turn: Turn) -> None:
        self._client = client
        self._turn = turn
        self._is_over = False
        self._is_asked = False  # and not running tools
        self._stream: TokenStream = self._ask()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        """The next chunk, waiting for it; raises as ``TokenStream.__next__`` does, and then the turn is taken back."""
        while not self._is_over:
            try:
                chunk = next(self._stream, None)
                if chunk is not None:
                    return chunk
                self._go_on(self._stream.generation)
            except ContextTooLong:
                if not self._turn.drop_oldest():
                    self._fail()
                    raise
                self._stream = self._ask()
            except Exception:
                self._fail()
                raise
            except BaseException:  # Ctrl-C
                self.close()
                raise
        raise StopIteration

    def _ask(self) -> TokenStream:
        try:
            stream = self._client.generate(stream=True, **self._turn.options)
        except BaseException:
            self._fail()
            raise
        self._is_asked = True
        return stream

    def _go_on(self, generation: Generation) -> None:
        """Run the tools that were called, and ask again; or end."""
        calls = self._turn.take(generation)
        if calls is None:
            self._is_over = True
            return
        assert self._turn.loop is not None
        self._is_asked = False
        self._turn.loop.run(calls)
        self._stream = self._ask()

    def _fail(self) -> None:
        self._is_over = True
        self._turn.fail()

    @property
    def text(self) -> str:
        """The text of the last answer so far; nothing while tools are run."""
        return self._stream.text if self._is_asked else ""

    @property
    def generation(self) -> Generation:
        """The whole last answer, once the iterator is at its end.

        Raises:
            UsageError: it is not.
        """
        if not self._is_over:
            raise UsageError("the stream has not come to its end; iterate over it first, or call read()")
        return self._stream.generation

    def read(self) -> Generation:
        """Take all the chunks that are left; the whole last answer."""
        for _ in self:
            pass
        return self.generation

    def close(self) -> None:
        """End the turn; what had come of the answer is kept."""
        if not self._is_over:
            self._is_over = True
            self._stream.close()
            self._turn.leave(self.text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_is_over", True):  # the call ends with its own stream
            self._turn.leave(self.text)
