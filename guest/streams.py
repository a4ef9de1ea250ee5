"""What ``generate(stream=True)`` gives: an iterator of chunks that ends the call when it is dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from mlxbridge.errors import BridgeError, Cancelled, UsageError
from mlxbridge.guest.blocking_link import BlockingLink
from mlxbridge.guest.call import TAKE_BATCH, Call, Collector, Diverged
from mlxbridge.guest.formats import typed
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
    return [typed(collectors[call].finish(call.result or {}), response_format) for call in calls]


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
        self._is_seen = is_seen
        self._is_repeatable = is_repeatable
        self._before: Collector | None = (
            None  # what was taken of a call that was begun again, until that is as far
        )
        self._call = call
        self._collector = Collector(call)
        self._response_format = response_format
        self._generation: Generation | None = None

    @property
    def _calls(self) -> Iterable[Call]:
        return (self._call,)

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
        call = self._call
        if call.error is not None:
            raise call.error
        assert call.result is not None
        self._generation = typed(self._collector.finish(call.result), self._response_format)
        raise StopIteration

    def _next(self) -> Chunk | None:
        """None at the end of the call."""
        call = self._call
        while not call.ended or call.texts:  # in this order: another thread may add a chunk, then the end
            if not call.texts:
                self._link.wait(call, self._deadline)
            if call.texts and (chunk := self._take()) is not None:
                return chunk
        if self._before is not None and call.error is None:
            raise self._reason  # the answer has ended before it came as far as the first one
        return None

    def _take(self) -> Chunk | None:
        chunk = self._collector.take()
        if self._call.taken >= TAKE_BATCH:
            self._link.return_credit(self._call)
        if self._before is None:
            return chunk
        try:
            ahead = self._collector.behind(self._before)
        except Diverged:
            raise self._reason from None
        if ahead is not None:
            self._before = None
        return ahead

    def _begin_again(self) -> bool:
        """Whether the call that has ended was begun again."""
        error = self._call.error
        given = self._before or self._collector
        must_go_on = self._is_seen and given.has_any
        if error is None or self._again is None or (must_go_on and not self._is_repeatable):
            return False
        if (opened := self._again(error)) is None:
            return False
        self._reason = error
        self._before = given if must_go_on else None
        self._link, self._call = opened
        self._collector = Collector(self._call)
        return True

    @property
    def text(self) -> str:
        """The text so far."""
        return (self._before or self._collector).text

    @property
    def generation(self) -> Generation:
        """The whole answer, once the iterator is at its end.

        Raises:
            UsageError: it is not.
        """
        if self._generation is None:
            if self._finished:
                raise UsageError(
                    "the stream was closed, or failed, before its end; text has what had come by then"
                )
            raise UsageError("the stream has not come to its end; iterate over it first, or call read()")
        return self._generation

    def read(self) -> Generation:
        """Take all the chunks that are left; the whole answer."""
        for _ in self:
            pass
        return self.generation


def deadline_after(timeout: float | None) -> float | None:
    """The moment of ``time.monotonic`` that is ``timeout`` seconds away."""
    return None if timeout is None else monotonic() + timeout
