"""What ``AsyncClient.generate_many`` gives: an async iterator of outcomes that ends its calls when it is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from mlxbridge.errors import BridgeError, DeadlineExceeded, UsageError
from mlxbridge.guest.async_link import AsyncLink
from mlxbridge.guest.async_reader import AsyncReader, expire
from mlxbridge.guest.call import Call
from mlxbridge.guest.many import Many, Portion
from mlxbridge.guest.requests import deadline_ms
from mlxbridge.types import Outcome


class AsyncOutcomes(AsyncReader[Outcome]):
    """How each prompt ended, in the order in which they do. For one task at a time.

    Leaving the ``async with`` block, ``aclose()``, cancelling the task that reads, or losing the last reference cancels
    what is unanswered.
    """

    _last_words = "the outcomes were closed"

    def __init__(self, link: AsyncLink, many: Many, *, timeout: float | None, deadline: float | None) -> None:
        super().__init__(link)
        self._many = many
        self._timeout = timeout
        self._deadline = deadline
        self._is_read = False
        if deadline is not None:
            self._timer = link.loop.call_at(deadline, _expire_all, link, many)

    @property
    def _calls(self) -> Iterable[Call]:
        return self._many.calls

    async def __anext__(self) -> Outcome:
        """The next outcome, waiting for it; raises as ``Outcomes.__next__`` does."""
        if self._finished:
            raise StopAsyncIteration
        if self._is_read:
            raise UsageError("outcomes can be read by one task at a time")
        self._is_read = True
        try:
            outcome = await self._next()
        except BaseException as error:
            if isinstance(error, BridgeError):
                self._many.explain(error)
            self._close()
            raise
        finally:
            self._is_read = False
        if outcome is None:
            self._finish()
            raise StopAsyncIteration
        return outcome

    async def _next(self) -> Outcome | None:
        """None at the end."""
        while True:
            await self.open_calls()
            outcome = self._many.take()
            if outcome is not None or self._many.is_done:
                return outcome
            if self._many.calls:
                await self._waiter.sleep()

    async def open_calls(self) -> None:
        """Send as many prompts as should be unanswered at a time."""
        while (portion := self._many.next_portion(self._link.max_head_bytes)) is not None:
            try:
                call = await self._open(portion)
            except BridgeError as error:
                self._many.stop(portion, error)
                return
            call.timeout_s = self._timeout
            call.news = self._waiter.wake
            self._many.begin(portion, call)

    async def _open(self, portion: Portion) -> Call:
        left = None if self._deadline is None else max(0.001, self._deadline - self._link.loop.time())
        try:
            async with asyncio.timeout(left):
                (call,) = await self._link.open(
                    "generate_many", [portion.params], portion.windows, deadline_ms(left)
                )
        except TimeoutError as error:
            if isinstance(error, BridgeError):
                raise
            raise DeadlineExceeded(
                f"generate_many: no call could be opened within {self._timeout:g} s"
            ) from None
        return call

    @property
    def num_done(self) -> int:
        """Outcomes so far."""
        return self._many.num_done

    @property
    def num_total(self) -> int | None:
        """Prompts in all; None if the input does not say how many it has."""
        return self._many.num_total


def _expire_all(link: AsyncLink, many: Many) -> None:
    """The time for all of it is up. No method, since a timer must not keep the iterator alive."""
    for call in many.calls:
        expire(link, call)
