"""Which calls are begun again without being asked for, and when (SPEC.md §8); does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, NoReturn

from mlxbridge.errors import BridgeError, DeadlineExceeded, TransportError, Unavailable
from mlxbridge.guest.pauses import Pauses
from mlxbridge.guest.requests import deadline_ms, shown, wrong

MAX_RETRY = 100
NUM_FREE = 5
"""How often a call of whose answer nothing was given away is begun again, though it has no ``retry``."""

RESTART_S = 30.0
"""How long a host that was there is looked for, with ``retry``: as long as it takes to start anew."""
START_S = 5.0
"""How long one that was not there yet is."""

PING_S = 5.0
"""Seconds for a ping that is given none."""

_FIRST_PAUSE_S = 0.1
_MOST_PAUSE_S = 10.0
_MOST_SEARCH_PAUSE_S = 1.0
_CHANGES = frozenset({"unload", "delete"})
"""Methods that are not made twice: somebody may have done something in between."""


def check_retry(retry: int | None, default: int) -> int:
    """A ``retry`` that was given, or the one that holds if none was.

    Raises:
        UsageError: it is no such number.
    """
    if retry is None:
        return default
    if type(retry) is not int or not 0 <= retry <= MAX_RETRY:
        raise wrong("retry", f"must be a whole number from 0 to {MAX_RETRY}, not {shown(retry)}")
    return retry


def is_repeatable(params: Mapping[str, Any]) -> bool:
    """Whether the same params of ``generate`` should give the same tokens.

    A temperature that is left out is 0 unless the host's configuration has another, which only the host knows: then the tokens
    are found to be others.
    """
    return type(params.get("seed")) is int or params.get("temperature") in (None, 0)


class Retries:
    """Those of one call, over all the times that it is begun.

    A call that may be begun again may also wait for its host: one that starts anew is away for a moment. How often it is looked
    for does not count.

    Args:
        method: the call's.
        retry: how often it may be begun again after an error that is ``retryable``.
        timeout: seconds for all of it.
        now: seconds of some clock.

    Attributes:
        deadline: of that clock; None for no limit.
    """

    def __init__(
        self, method: str, retry: int, timeout: float | None, now: Callable[[], float] = monotonic
    ) -> None:
        self._method = method
        self._num_left = retry
        self._num_free = NUM_FREE
        self._may_search = retry > 0
        self._now = now
        self._timeout = timeout
        self.deadline = None if timeout is None else now() + timeout
        self._pauses = Pauses(_FIRST_PAUSE_S, _MOST_PAUSE_S)
        self._search_pauses = Pauses(_FIRST_PAUSE_S, _MOST_SEARCH_PAUSE_S)
        self._away_since: float | None = None  # the first time that nobody was found
        self._lost: BridgeError | None = None  # what ended the call the last time
        self._is_over = False
        self._has_waited = False  # for whatever: the call has all of its time before

    def begin(self) -> float | None:
        """Seconds that the call has, each time that it is begun; None for no limit.

        Raises:
            DeadlineExceeded: there is nothing left.
        """
        if self.deadline is None or not self._has_waited:
            self._has_waited = True
            return self._timeout
        left = self.deadline - self._now()
        if left <= 0:
            raise DeadlineExceeded(f"{self._method}: no end within {self._timeout:g} s")
        return left

    @property
    def left_s(self) -> float | None:
        """Seconds until the deadline, 0 behind it; None for no limit."""
        return None if self.deadline is None else max(0.0, self.deadline - self._now())

    def pause_s(self, error: BridgeError) -> float | None:
        """Seconds until the call is begun again; None if it is not, and has ended with this error."""
        if self._is_over or (self._method in _CHANGES and isinstance(error, TransportError)):
            return None
        if error.details.get("repeatable") is True and self._num_free:
            self._num_free -= 1
        elif error.retryable and self._num_left:
            self._num_left -= 1
        else:
            return None
        pause_s = max(error.retry_after or 0.0, self._pauses.next_s())
        if not self._is_in_time(pause_s):
            return None
        self._lost = error
        return pause_s

    def search_pause_s(self, error: BridgeError, *, was_there: bool) -> float | None:
        """Seconds until the host is looked for again; None if it is not.

        Args:
            error: why it was not found.
            was_there: it was found before.
        """
        pause_s = None
        if self._may_search and error.retryable:
            now = self._now()
            if self._away_since is None:
                self._away_since = now
                self._search_pauses.begin_anew()
            pause_s = max(error.retry_after or 0.0, self._search_pauses.next_s())
            patience_s = RESTART_S if was_there else START_S
            if now + pause_s > self._away_since + patience_s or not self._is_in_time(pause_s):
                pause_s = None
        self._has_waited, self._is_over = True, pause_s is None
        return pause_s

    def found(self) -> None:
        """The host is there."""
        self._away_since = None

    def not_found(self, error: BridgeError) -> NoReturn:
        """The host is looked for no longer.

        Args:
            error: why it was not found.

        Raises:
            BridgeError: that; or, of a call that was to begin anew, what had ended it, with that as its cause.
        """
        lost = self._lost
        if lost is None or not isinstance(error, TransportError | Unavailable):
            raise error
        told = f"{lost.message}; it could not begin anew, for there was no host any more: {error.message}"
        raise type(lost)(told, retryable=True, details=lost.details, advice="") from error

    def _is_in_time(self, pause_s: float) -> bool:
        return self.deadline is None or self._now() + pause_s < self.deadline


class CallDefaults:
    """What holds for the calls of a client that do not say otherwise.

    Args:
        timeout: seconds for each; None for no limit.
        retry: how often it is begun again if it ends with an error that is ``retryable``.

    Raises:
        UsageError: ``retry`` is no such number.
    """

    def __init__(self, timeout: float | None, retry: int) -> None:
        self._timeout = timeout
        self._retry = check_retry(retry, 0)

    def timeout(self, own: float | None) -> float | None:
        """Seconds for a call that names so many, or none."""
        return self._timeout if own is None else own

    def ping_retries(self, timeout: float | None) -> Retries:
        """For ``ping``, which a client's long ``timeout`` is not for."""
        longest_s = PING_S if self._timeout is None else min(PING_S, self._timeout)
        return self.retries("ping", longest_s if timeout is None else timeout)

    def retries(self, method: str, timeout: float | None, retry: int | None = None) -> Retries:
        """How often and for how long a call is begun.

        Args:
            timeout: seconds for all of it, however often; None for no limit.
            retry: the call's own, if it names one.

        Raises:
            UsageError: one of them is no such number.
        """
        deadline_ms(timeout)  # refuses what is no timeout
        return Retries(method, check_retry(retry, self._retry), timeout)
