"""What ``generate_many`` gives: an iterator of outcomes that ends its calls when it is dropped."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic

from mlxbridge.errors import BridgeError
from mlxbridge.guest.blocking_link import BlockingLink
from mlxbridge.guest.call import Call
from mlxbridge.guest.many import Many
from mlxbridge.guest.reader import Reader
from mlxbridge.guest.requests import deadline_ms
from mlxbridge.types import Outcome


class Outcomes(Reader[Outcome]):
    """How each prompt ended, in the order in which they do. For one thread at a time.

    Leaving the ``with`` block, ``close()``, or losing the last reference cancels what is unanswered.
    """

    _last_words = "the outcomes were closed"

    def __init__(
        self, link: BlockingLink, many: Many, *, timeout: float | None, deadline: float | None
    ) -> None:
        super().__init__(link, deadline)
        self._many = many
        self._timeout = timeout
        self._open_calls()

    @property
    def _calls(self) -> Iterable[Call]:
        return self._many.calls

    def __next__(self) -> Outcome:
        """The next outcome, waiting for it.

        Raises:
            DeadlineExceeded: the timeout came first.
            RemoteError, ConnectionLost: what ended all of it, after the outcomes that came before. Prompts whose index is
                in ``details["unanswered"]``, or ``details["next_index"]`` or more, have none.
        """
        if self._finished:
            raise StopIteration
        try:
            outcome = self._next()
        except BaseException as error:
            if isinstance(error, BridgeError):
                self._many.explain(error)
            self.close()
            raise
        if outcome is None:
            self._finished = True
            raise StopIteration
        return outcome

    def _next(self) -> Outcome | None:
        """None at the end."""
        while True:
            self._open_calls()
            outcome = self._many.take()
            if outcome is not None or self._many.is_done:
                return outcome
            if calls := self._many.calls:
                self._link.wait_any(calls, self._deadline)

    def _open_calls(self) -> None:
        while (portion := self._many.next_portion(self._link.max_head_bytes)) is not None:
            left = None if self._deadline is None else max(0.001, self._deadline - monotonic())
            try:
                (call,) = self._link.open(
                    "generate_many", [portion.params], portion.windows, deadline_ms(left), self._deadline
                )
            except BridgeError as error:
                self._many.stop(portion, error)
                return
            call.timeout_s = self._timeout
            self._many.begin(portion, call)

    @property
    def num_done(self) -> int:
        """Outcomes so far."""
        return self._many.num_done

    @property
    def num_total(self) -> int | None:
        """Prompts in all; None if the input does not say how many it has."""
        return self._many.num_total
