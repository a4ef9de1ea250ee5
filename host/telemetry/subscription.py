"""One guest's subscription: what it is told, as far as it reads; of more than that the oldest is lost, and counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Protocol

from mlxbridge.host.telemetry.events import Event

MAX_WAITING = 1024
_MAX_HELD = 64


class Outlet(Protocol):
    """The call that a guest subscribed with (its session knows)."""

    def send(self, item: Any) -> None:
        """One item, which costs one of the guest's credit."""

    def num_held(self) -> int:
        """Items that were sent and have not left."""

    def finish(self) -> None:
        """The call ends, well."""


class Subscription:
    """Owns the events that wait for the guest's credit.

    Args:
        kinds: of events that it asked for.
        sees: whether the guest may know of an event.
        guest: for whom it counts.
        outlet: where events go.
        later: has something done once what is being done now is over.
    """

    def __init__(
        self,
        kinds: Collection[str],
        sees: Callable[[Event], bool],
        guest: str,
        outlet: Outlet,
        later: Callable[[Callable[[], object]], object],
    ) -> None:
        self.guest = guest
        self._kinds = frozenset(kinds)
        self._sees = sees
        self._outlet = outlet
        self._later = later
        self._waiting: deque[Event] = deque()
        self._num_lost = 0
        self._num_sent = 0
        self._granted = 0
        self._is_woken = False
        self._has_ended = False

    def take(self, event: Event) -> None:
        """Let an event wait for its turn; the oldest is lost if there are too many."""
        if event.kind not in self._kinds or not self._sees(event):
            return
        if len(self._waiting) == MAX_WAITING:
            self._waiting.popleft()
            self._num_lost += 1
        self._waiting.append(event)
        self._wake()

    def grant(self, items: int) -> None:
        """The guest's credit is so much, in all; or what was held may have left."""
        self._granted = items
        if self._waiting:
            self._wake()

    def end(self) -> None:
        """Send what the guest has credit for, and end the call."""
        self._send_some()
        self._has_ended = True
        self._waiting.clear()
        self._outlet.finish()

    def _wake(self) -> None:
        """Send later: whoever tells is in the middle of something, and more may come at once."""
        if not self._is_woken:
            self._is_woken = True
            self._later(self._send_some)

    def _send_some(self) -> None:
        self._is_woken = False
        while (
            self._waiting
            and not self._has_ended
            and self._num_sent < self._granted
            and self._outlet.num_held() < _MAX_HELD
        ):
            self._num_sent += 1
            if self._num_lost:
                lost, self._num_lost = self._num_lost, 0
                self._outlet.send({"event": "lost", "at": self._waiting[0].item["at"], "count": lost})
            else:
                self._outlet.send(self._waiting.popleft().item)
