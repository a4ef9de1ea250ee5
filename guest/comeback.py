"""When to try again to reach a host whose link broke; does no I/O."""

from __future__ import annotations

from mlxbridge.addresses import Address, UnixAddress
from mlxbridge.errors import BridgeError, ConnectionLost, Gone
from mlxbridge.guest.pauses import Pauses
from mlxbridge.transport.reasons import is_refusal

FIRST_DELAY_S = 0.05
MOST_DELAY_S = 2.0
REFUSALS = 3
"""How often in a row nobody listens where a host was that has ended; of a unix socket once is enough, for whoever listens
again is another process. Over TCP and vsock what refuses may be a relay, which is given a moment to begin anew."""

MOST_FRUITLESS = 12
"""How often in a row a link may break again before anything has come over it: somebody in between does not let it live."""


class Comeback:
    """What becomes of the attempts to reach one host again.

    Pauses grow. They begin anew when something has come over the link, and not when it can be reached: one that is cut over and
    over at the same byte would keep both ends busy for ever.

    Args:
        address: the host's.

    Attributes:
        until: when the host keeps the calls no longer.
        reason: why it was not reached yet; ``Gone`` if it has ended, and the calls with it.
    """

    def __init__(self, address: Address) -> None:
        self.until = 0.0
        self.reason: BridgeError = ConnectionLost("the link was cut")
        self._address = address
        self._pauses = Pauses(FIRST_DELAY_S, MOST_DELAY_S)
        self._num_received = -1
        self._num_fruitless = 0
        self._num_refusals = 0
        self._most_refusals = 1 if isinstance(address, UnixAddress) else REFUSALS

    def begin(self, now: float, grace_s: float, num_received: int) -> None:
        """The link broke, at ``now`` of any clock, when so many message frames had come since it was first there.

        Args:
            grace_s: how long the host keeps the calls.
        """
        if num_received > self._num_received:
            self._pauses.begin_anew()
            self._num_fruitless = 0
        else:
            self._num_fruitless += 1
        self._num_received = num_received
        self.until = now + grace_s
        self.reason = ConnectionLost("the link was cut")
        self._num_refusals = 0

    def next_delay(self, now: float) -> float | None:
        """Seconds until the next attempt; None if it would come too late, or be as fruitless as those before."""
        if self._num_fruitless > MOST_FRUITLESS or isinstance(self.reason, Gone):
            return None
        delay = self._pauses.next_s()
        return None if now + delay > self.until else delay

    def reached(self) -> None:
        """Somebody listens there, whatever becomes of it."""
        self._num_refusals = 0

    def failed(self, error: BridgeError) -> None:
        """An attempt has ended so."""
        self.reason = error
        self._num_refusals = self._num_refusals + 1 if is_refusal(self._address, error) else 0
        if self._num_refusals >= self._most_refusals:
            self.reason = Gone(f"the host has ended: {error.message}")
