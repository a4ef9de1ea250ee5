"""What ``generate(stream=True)`` gives: an iterator of chunks that ends the call when it is dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from mlxbridge.errors import BridgeError, Cancelled
from mlxbridge.guest.answer import Answer, as_asked
from mlxbridge.guest.blocking_link import BlockingLink
from mlxbridge.guest.call import TAKE_BATCH, Call, Collector
from mlxbridge.guest.reader import Reader
from mlxbridge.types import Chunk, Generation

Again = Callable[[BridgeError], tuple[BlockingLink, Call] | None]
"""Begins a call again that has ended so; None if it is not to be."""


def read_all(
    link: BlockingLink, calls: list[Call], deadline: float | None, response_format: Any = None
) -> list[Generation]:
    """The answers of several calls, in their order.

    Raises:
        DeadlineExceeded: the timeout came first.
        RemoteError, ConnectionLost: what ended the first call that failed; the others were cancelled.
    """
    collectors = {call: Collector(call) for call in calls}
    try:
        pending = list(calls)
        while pending:
            link.wait_any(pending, deadline)
            pending = [call for call in pending if not _drain(link, call, collectors[call])]
    except BaseException:
        for call in calls:
            link.give_up(call, Cancelled("another answer to the same prompt failed"))
        raise
    return [as_asked(collectors[call].finish(call.result or {}), response_format) for call in calls]


def _drain(link: BlockingLink, call: Call, collector: Collector) -> bool:
    """Take what a call has; whether that was all."""
    ended = call.ended  # looked at first: another thread may add a chunk, then the end
    while call.texts:
        collector.take()
        if call.taken >= TAKE_BATCH:
            link.return_credit(call)
    if ended and call.error is not None:
        raise call.error
    return ended


class TokenStream(Reader[Chunk]):
    """Chunks of one answer as they are generated. For one thread at a time.

    Leaving the ``with`` block, ``close()``, or losing the last reference cancels the call at the host.

    Example:
        >>> with client.chat("Count from 1 to 20.", stream=True) as stream:
        ...     first = next(stream)
        >>> stream.text == first.text  # what had come when it was left
        True
        >>> client.chat("What is 27 + 15?", stream=True).read().text
        '27 + 15 = 42.'
    """

    _last_words = "the stream was closed"

    def __init__(
        self,
        link: BlockingLink,
        call: Call,
        deadline: float | None,
        response_format: Any = None,
        *,
        again: Again | None = None,
        is_seen: bool = True,
        is_repeatable: bool = False,
    ) -> None:
        super().__init__(link, deadline)
        self._again = again
        self._answer = Answer(call, response_format, is_seen=is_seen, is_repeatable=is_repeatable)

    @property
    def _calls(self) -> Iterable[Call]:
        return (self._answer.call,)

    def __next__(self) -> Chunk:
        """The next chunk, waiting for it.

        Raises:
            DeadlineExceeded: the timeout of the call came first.
            RemoteError, ConnectionLost: what ended the call, after the chunks that came before.
        """
        if self._finished:
            raise StopIteration
        try:
            while (chunk := self._next()) is None and self._begin_again():
                pass
        except BaseException:
            self.close()
            raise
        if chunk is not None:
            return chunk
        self._finished = True
        self._answer.finish()
        raise StopIteration

    def _next(self) -> Chunk | None:
        """None at the end of the call."""
        call = self._answer.call
        while not call.ended or call.texts:  # in this order: another thread may add a chunk, then the end
            if not call.texts:
                self._link.wait(call, self._deadline)
            if call.texts and (chunk := self._take(call)) is not None:
                return chunk
        return None

    def _take(self, call: Call) -> Chunk | None:
        chunk = self._answer.take()
        if call.taken >= TAKE_BATCH:
            self._link.return_credit(call)
        return chunk

    def _begin_again(self) -> bool:
        """Whether the call that has ended was begun again."""
        error = self._answer.lost
        if error is None or self._again is None or (opened := self._again(error)) is None:
            return False
        self._link, call = opened
        self._answer.begin_again(call)
        return True

    @property
    def text(self) -> str:
        """The text so far."""
        return self._answer.text

    @property
    def generation(self) -> Generation:
        """The whole answer, once the iterator is at its end.

        Raises:
            UsageError: it is not.
        """
        return self._answer.generation(is_over=self._finished)

    def read(self) -> Generation:
        """Take all the chunks that are left; the whole answer."""
        for _ in self:
            pass
        return self.generation


def deadline_after(timeout: float | None) -> float | None:
    """The moment of ``time.monotonic`` that is ``timeout`` seconds away."""
    return None if timeout is None else monotonic() + timeout
