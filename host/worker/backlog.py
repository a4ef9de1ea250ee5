"""The calls that a worker has read and not yet begun: few are begun between two steps, so that answers go on meanwhile.

Guests take turns, so that one who sends a thousand calls does not keep the next one from being looked at; and one may
have at most ``GUEST_SHARE`` times the memory waiting that is still free for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mlxbridge.errors import Overloaded
from mlxbridge.host.engine.interface import GUEST_SHARE, Origin
from mlxbridge.host.params import estimate_bytes
from mlxbridge.host.waiting import WaitingRoom

MAX_BYTES = 64 * 1024 * 1024
CALLS_A_TURN = 8
BYTES_A_TURN = 256 * 1024
RETRY_AFTER_S = 1.0


class _Waiting(NamedTuple):
    params: Mapping[str, Any]
    origin: Origin
    num_bytes: int


class Backlog:
    """Owns the params of calls that wait to be encoded; each guest's in order of arrival."""

    def __init__(self) -> None:
        self._calls: dict[int, _Waiting] = {}
        # The next guest's first.
        self._guests: dict[str, dict[int, None]] = {}
        self._room = WaitingRoom()

    def __len__(self) -> int:
        return len(self._calls)

    def __contains__(self, call: int) -> bool:
        return call in self._calls

    def add(self, call: int, params: Mapping[str, Any], origin: Origin) -> None:
        """Let a call wait.

        Raises:
            Overloaded: what waits takes too much memory, all of it or this guest's.
        """
        size, guest = estimate_bytes(params), origin.guest
        if not self._room.has_room(guest, size, max_bytes=MAX_BYTES):
            own = self._room.bytes_of(guest) / 2**20
            raise Overloaded(
                f"{self._room.num_bytes / 2**20:.1f} MiB of calls wait to be read by the model, {own:.1f} of them this guest's; "
                f"there may be {MAX_BYTES / 2**20:.0f}, and of one guest {GUEST_SHARE} times what is free",
                retry_after=RETRY_AFTER_S,
            )
        self._calls[call] = _Waiting(params, origin, size)
        self._guests.setdefault(guest, {})[call] = None
        self._room.enter(guest, size)

    def remove(self, call: int) -> bool:
        """Forget a call; whether it was here."""
        if (waiting := self._calls.pop(call, None)) is None:
            return False
        guest = waiting.origin.guest
        own = self._guests[guest]
        del own[call]
        if not own:
            del self._guests[guest]
        self._room.leave(guest, waiting.num_bytes)
        return True

    def take_some(self) -> list[tuple[int, Mapping[str, Any], Origin]]:
        """Hand out what may be begun in one turn: a few calls, fewer if they are large, at least one."""
        taken: list[tuple[int, Mapping[str, Any], Origin]] = []
        room = BYTES_A_TURN
        while self._calls and room > 0 and len(taken) < CALLS_A_TURN:
            guest, own = next(iter(self._guests.items()))
            call = next(iter(own))
            waiting = self._calls[call]
            self.remove(call)
            if guest in self._guests:
                self._guests[guest] = self._guests.pop(guest)
            taken.append((call, waiting.params, waiting.origin))
            room -= waiting.num_bytes
        return taken
