"""``chat.completions.stream``: the answers to a chat as events."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mlxbridge.compat.openai.chat_events import ChatEvents
from mlxbridge.compat.openai.errors import translated
from mlxbridge.compat.openai.objects import ChatCompletion, Object, ParsedChatCompletion

if TYPE_CHECKING:
    from mlxbridge.compat.openai.client import Stream


class ChatCompletionStream:
    """Events as they come; of leaving it early the same holds as of ``Stream``."""

    def __init__(self, stream: Stream, events: ChatEvents) -> None:
        self._stream = stream
        self._events = events
        self._pending: deque[Object] = deque()

    def __iter__(self) -> Iterator[Object]:
        return self

    def __next__(self) -> Object:
        """The next event; raises as ``Stream``, and ``LengthFinishReasonError`` where ``max_tokens`` cut what was to be an object."""
        while not self._pending:
            chunk = next(self._stream)
            with translated():
                self._pending.extend(self._events.take(chunk))
        return self._pending.popleft()

    @property
    def current_completion_snapshot(self) -> ParsedChatCompletion:
        """What has come so far."""
        return self._events.snapshot

    def until_done(self) -> Self:
        """Take all events that are left."""
        for _ in self:
            pass
        return self

    def get_final_completion(self) -> ChatCompletion:
        """The whole, as ``parse`` gives it; takes the events that are left."""
        self.until_done()
        with translated():
            return self._events.finish()

    def close(self) -> None:
        """End the call."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
