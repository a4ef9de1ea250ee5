"""Guests whose link broke: to which session each may come back, and how much may wait for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlxbridge.errors import Gone
from mlxbridge.host.waiting import WaitingRoom
from mlxbridge.protocol.events import ResumeAsked
from mlxbridge.protocol.handshake import LINK_BYTES, LINK_SECRET_BYTES, Resumption
from mlxbridge.protocol.kept import KeptPool

if TYPE_CHECKING:
    from mlxbridge.host.server.session import Session

MAX_AWAY = 1024
MAX_AWAY_BYTES = 256 * 1024 * 1024
_CALL_BYTES = 4096
"""What a call takes beside its answer, about."""

MAX_KEPT_BYTES = 256 * 1024 * 1024
"""What is kept of frames that guests may have missed, whether they are away or have not yet said that they got them. Past it the
guest with the most can come back only if it has got all."""

NOTHING_LEFT = (
    "this host has nothing left of that connection: it has started anew, or too much time has passed"
)


class Away:
    """Knows the sessions of one host by the names of their links.

    Args:
        grace_s: how long calls wait for their guest; 0: not at all.

    Attributes:
        grace_s: for guests that are still to come.
        kept_pool: what is kept for all guests.
    """

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self.kept_pool = KeptPool(MAX_KEPT_BYTES)
        self._by_link: dict[bytes, Session] = {}
        self._room = WaitingRoom()
        self._sizes: dict[Session, tuple[str, int]] = {}  # of those that wait, and whose they are

    def __len__(self) -> int:
        return len(self._sizes)

    def new_resumption(self) -> Resumption | None:
        """With what a guest of now may come back; None if it may not."""
        if not self.grace_s:
            return None
        return Resumption(os.urandom(LINK_BYTES), os.urandom(LINK_SECRET_BYTES), round(self.grace_s * 1000))

    def add(self, session: Session) -> None:
        """A guest may come back to this session, if it has a resumption."""
        if session.resumption is not None:
            self._by_link[session.resumption.link] = session

    def remove(self, session: Session) -> None:
        """The session is over."""
        if session.resumption is not None:
            self._by_link.pop(session.resumption.link, None)

    def receive(self, fresh: Session, asked: ResumeAsked) -> None:
        """A session turns out to be that of a guest that comes back."""
        try:
            session = self._by_link.get(asked.link)
            if session is None:
                raise Gone(NOTHING_LEFT)
            session.welcome_back(fresh, asked)
        except Gone as error:
            fresh.refuse_return(error)

    def enter(self, session: Session, guest: str, num_calls: int, num_bytes: int) -> bool:
        """Let a session's calls wait for its guest; false if there is no room for them, and what is kept with them."""
        size = num_bytes + _CALL_BYTES * num_calls
        if not self._room.has_room(guest, size, max_bytes=MAX_AWAY_BYTES, max_calls=MAX_AWAY):
            return False
        self._room.enter(guest, size)
        self._sizes[session] = guest, size
        return True

    def leave(self, session: Session) -> None:
        """They wait no longer, if they did."""
        if session in self._sizes:
            self._room.leave(*self._sizes.pop(session))
