"""Guests whose link broke, and whose calls wait for them: bounded in number and memory, each guest's among them."""

from __future__ import annotations

from mlxbridge.host.waiting import WaitingRoom

MAX_AWAY = 1024
MAX_AWAY_BYTES = 256 * 1024 * 1024
_CALL_BYTES = 4096
"""What a call takes beside its answer, about."""


class Away:
    """Counts the connections that were cut, and what is kept for them."""

    def __init__(self) -> None:
        self._room = WaitingRoom()

    def __len__(self) -> int:
        return len(self._room)

    def enter(self, guest: str, num_calls: int, num_bytes: int) -> int | None:
        """Let a connection's calls wait; the bytes that they count with, None if there is no room for them."""
        size = num_bytes + _CALL_BYTES * num_calls
        if not self._room.has_room(guest, size, max_bytes=MAX_AWAY_BYTES, max_calls=MAX_AWAY):
            return None
        self._room.enter(guest, size)
        return size

    def leave(self, guest: str, size: int) -> None:
        """They wait no longer."""
        self._room.leave(guest, size)
