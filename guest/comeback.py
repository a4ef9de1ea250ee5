"""When to try again to reach a host whose link broke; does no I/O."""

from __future__ import annotations

import random

from mlxbridge.addresses import Address, UnixAddress
from mlxbridge.errors import Gone, TransportError

FIRST_DELAY_S = 0.05
MOST_DELAY_S = 2.0


class Comeback:
    """Pauses that double, of which each is drawn anew, lest all guests of a host come back at once.

    (Brooker, "Exponential Backoff and Jitter", AWS 2015: full jitter.)

    Args:
        now: seconds of any clock.
        patience_s: how long to try.
    """

    def __init__(self, now: float, patience_s: float) -> None:
        self.until = now + patience_s
        self._most_s = FIRST_DELAY_S

    def next_delay(self, now: float) -> float | None:
        """Seconds until the next attempt; None if it would come too late."""
        delay = random.uniform(0, self._most_s)
        self._most_s = min(2 * self._most_s, MOST_DELAY_S)
        return None if now + delay > self.until else delay


def as_lost(address: Address, error: TransportError) -> TransportError:
    """The error of an attempt; ``Gone`` if it shows that the host has ended, and the calls with it."""
    if isinstance(address, UnixAddress) and isinstance(
        error.__cause__, ConnectionRefusedError | FileNotFoundError
    ):
        return Gone(f"the host has ended: {error.message}")
    return error
