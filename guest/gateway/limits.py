"""What each caller has under way, and what it has spent lately."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from mlxbridge.guest.gateway.callers import Caller
from mlxbridge.guest.gateway.problem import Problem

_MINUTE_S = 60.0
_SOON_S = 1.0


class Meter:
    """Of one caller: a count of requests, and a bucket of tokens that a minute fills.

    A request may begin while there is anything in the bucket, since nobody knows before what it takes; it may leave the
    bucket with less than nothing, which then has to fill up first.
    """

    def __init__(self, caller: Caller, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._in_flight = 0
        self._caller = caller
        self._level = float(caller.tokens_per_minute or 0)
        self._at = clock()

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._in_flight

    def update(self, caller: Caller) -> None:
        """Her limits may have changed; a new one finds a full bucket."""
        if self._caller.tokens_per_minute is None and caller.tokens_per_minute is not None:
            self._level, self._at = float(caller.tokens_per_minute), self._clock()
        self._caller = caller

    def enter(self) -> None:
        """A request begins; ``leave`` is to be called at its end.

        Raises:
            Problem: 429, and nothing has begun.
        """
        most, rate = self._caller.max_in_flight, self._caller.tokens_per_minute
        if most is not None and self._in_flight >= most:
            raise Problem(
                429,
                f"this key has {self._in_flight} under way of the {most} requests that it may have at once",
                code="rate_limit_exceeded",
                retry_after_s=_SOON_S,
            )
        if rate is not None:
            self._fill(rate)
            if self._level <= 0:
                raise Problem(
                    429,
                    f"this key's {rate} tokens a minute are spent",
                    code="rate_limit_exceeded",
                    retry_after_s=(1 - self._level) * _MINUTE_S / rate,
                )
        self._in_flight += 1

    def leave(self) -> None:
        """A request has ended."""
        self._in_flight -= 1

    def spend(self, num_tokens: int) -> None:
        """Tokens were read or generated."""
        if self._caller.tokens_per_minute is not None:
            self._level -= num_tokens

    def _fill(self, rate: int) -> None:
        now = self._clock()
        self._level = min(rate, self._level + (now - self._at) * rate / _MINUTE_S)
        self._at = now
