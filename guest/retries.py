"""Which calls are begun again without being asked for, and when (SPEC.md §8); does no I/O."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from mlxbridge.errors import BridgeError, DeadlineExceeded, TransportError
from mlxbridge.guest.requests import deadline_ms, shown, wrong

MAX_RETRY = 100
NUM_FREE = 5
"""How often a call of whose answer nothing was given away is begun again, though it has no ``retry``."""

_FIRST_PAUSE_S = 0.1
_MOST_PAUSE_S = 10.0
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
    """Whether the same params of ``generate`` give the same tokens: what is left out may be the host's to choose."""
    return type(params.get("seed")) is int or params.get("temperature") == 0


class Retries:
    """Those of one call, over all the times that it is begun.

    Args:
        method: the call's.
        retry: how often it may be begun again after an error that is ``retryable``.
        timeout: seconds for all of it.
        now: seconds of some clock.
    """

    def __init__(
        self, method: str, retry: int, timeout: float | None, now: Callable[[], float] = monotonic
    ) -> None:
        self._method = method
        self._num_left = retry
        self._num_free = NUM_FREE
        self._now = now
        self._timeout = timeout
        self._until = None if timeout is None else now() + timeout
        self._most_pause_s = _FIRST_PAUSE_S
        self._has_begun = False

    def begin(self) -> float | None:
        """Seconds that the call has, each time that it is begun; None for no limit.

        Raises:
            DeadlineExceeded: there is nothing left.
        """
        if self._until is None or not self._has_begun:
            self._has_begun = True
            return self._timeout
        left = self._until - self._now()
        if left <= 0:
            raise DeadlineExceeded(f"{self._method}: no end within {self._timeout:g} s")
        return left

    def pause_s(self, error: BridgeError) -> float | None:
        """Seconds until the call is begun again; None if it is not, and has ended with this error."""
        if self._method in _CHANGES and isinstance(error, TransportError):
            return None
        if error.details.get("repeatable") is True and self._num_free:
            self._num_free -= 1
        elif error.retryable and self._num_left:
            self._num_left -= 1
        else:
            return None
        # Drawn anew, lest all guests of a host come back at once; see comeback.
        pause_s = max(error.retry_after or 0.0, random.uniform(0, self._most_pause_s))
        self._most_pause_s = min(2 * self._most_pause_s, _MOST_PAUSE_S)
        if self._until is not None and self._now() + pause_s >= self._until:
            return None
        return pause_s


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
