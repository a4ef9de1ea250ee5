"""One answer as it is taken, chunk by chunk, over all the calls that it may take (SPEC.md §8); does no I/O."""

from __future__ import annotations

from typing import Any

from mlxbridge.errors import BridgeError, UsageError
from mlxbridge.guest.call import Call, Collector, Diverged
from mlxbridge.types import Chunk, Generation

_SAMPLED = (
    "make the call again; with temperature=0 or a seed=, a stream with retry= goes on behind what had come"
)
_DIVERGED = "asked for again, the answer began otherwise: temperature=0 or a seed= would make it the same"


class Answer:
    """What a stream gives; owns what was taken.

    Args:
        call: the first that it is the answer of.
        response_format: what makes an object of it.
        is_seen: chunks are given away as they come, and can never be taken back.
        is_repeatable: the same call should give the same tokens.

    Attributes:
        call: the latest.
    """

    def __init__(self, call: Call, response_format: Any, *, is_seen: bool, is_repeatable: bool) -> None:
        self.call = call
        self._response_format = response_format
        self._is_seen = is_seen
        self._is_repeatable = is_repeatable
        self._collector = Collector(call)
        # What was taken of a call that was begun again, until that is as far; and why it was.
        self._before: Collector | None = None
        self._reason: BridgeError | None = None
        self._generation: Generation | None = None

    def take(self) -> Chunk | None:
        """The next chunk of a call that has one; None if it was given away before.

        Raises:
            BridgeError: what ended the call before, if this one says something else.
        """
        chunk = self._collector.take()
        if self._before is None:
            return chunk
        try:
            ahead = self._collector.behind(self._before)
        except Diverged:
            raise self._diverged() from None
        if ahead is not None:
            self._before = None
        return ahead

    @property
    def lost(self) -> BridgeError | None:
        """What has ended the call, if it may be begun again; else None."""
        return None if self._must_go_on and not self._is_repeatable else self.call.error

    def begin_again(self, call: Call) -> None:
        """Go on with another call in place of the one that has ended."""
        self._reason = self.call.error
        self._before = self._given if self._must_go_on else None
        self.call, self._collector = call, Collector(call)

    def finish(self) -> None:
        """The call has ended, and all of it was taken.

        Raises:
            BridgeError: what ended it badly; or what ended the call before, if this one did not come as far.
        """
        call = self.call
        if call.error is not None:
            if call.error.retryable and self._must_go_on and not self._is_repeatable:
                call.error.advice = _SAMPLED
            raise call.error
        if self._before is not None:
            raise self._diverged()
        assert call.result is not None
        self._generation = as_asked(self._collector.finish(call.result), self._response_format)

    @property
    def text(self) -> str:
        """The text so far."""
        return self._given.text

    def generation(self, *, is_over: bool) -> Generation:
        """The whole answer.

        Args:
            is_over: nothing more is taken.

        Raises:
            UsageError: it has not come to its end.
        """
        if self._generation is not None:
            return self._generation
        if is_over:
            raise UsageError(
                "the stream was closed, or failed, before its end; text has what had come by then"
            )
        raise UsageError("the stream has not come to its end; iterate over it first, or call read()")

    def _diverged(self) -> BridgeError:
        assert self._reason is not None
        self._reason.advice = _DIVERGED
        return self._reason

    @property
    def _given(self) -> Collector:
        return self._before or self._collector

    @property
    def _must_go_on(self) -> bool:
        return self._is_seen and self._given.has_any


def as_asked(generation: Generation, response_format: Any) -> Generation:
    """The answer, with what it was to keep to, if there was such a thing."""
    if response_format is None:
        return generation
    from mlxbridge.guest.formats import typed  # brings what few programs need, and what takes time to load

    return typed(generation, response_format)
