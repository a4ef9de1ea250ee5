"""Which frames each side may send, and when, as tables (SPEC.md §5).

A connection goes through at most six states. Both sides open in HELLO. The host that wants a proof waits in AUTH for
it; the guest waits in READY for the host's word. OPEN is the working state; CLOSED the last one. One that has lost its
transport and may go on over another is CUT: nothing is sent or received, until it begins again in HELLO. Draining is not
a state of its own: it only refuses new calls.

Two rules: a frame that the table does not list for the receiver's state ends the connection; and a table lists what a
peer may *send*, so the guest's table is read when the host receives.
"""

from __future__ import annotations

from enum import Enum

from mlxbridge.protocol.frames import FrameType as F


class Role(Enum):
    """Guests open calls, hosts answer them. The host's front is a guest to its workers."""

    GUEST = "guest"
    HOST = "host"


class State(Enum):
    """How far a connection has come, seen from the receiving side."""

    HELLO = "waiting for HELLO"
    AUTH = "waiting for AUTH"
    READY = "waiting for READY"
    OPEN = "open"
    CUT = "cut"
    CLOSED = "closed"


_ALWAYS = frozenset({F.GOAWAY})
_OPEN = _ALWAYS | {F.PING, F.PONG, F.ACK}

MAY_SEND: dict[Role, dict[State, frozenset[F]]] = {
    Role.GUEST: {
        State.HELLO: _ALWAYS | {F.HELLO},
        State.AUTH: _ALWAYS | {F.AUTH},
        State.OPEN: _OPEN | {F.CALL, F.CANCEL, F.CREDIT},
    },
    Role.HOST: {
        State.HELLO: _ALWAYS | {F.HELLO},
        State.READY: _ALWAYS | {F.READY},
        State.OPEN: _OPEN | {F.ITEM, F.TOKENS, F.DATA, F.RESULT, F.ERROR},
    },
}
"""By sender's role and receiver's state."""


def peer_of(role: Role) -> Role:
    """The other side."""
    return Role.HOST if role is Role.GUEST else Role.GUEST
