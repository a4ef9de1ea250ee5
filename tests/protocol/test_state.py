"""The tables say what SPEC.md §5 says: each frame type has one state of its own or is for open connections."""

import pytest

from mlxbridge.protocol.frames import FrameType
from mlxbridge.protocol.state import MAY_SEND, Role, State, peer_of


@pytest.mark.parametrize("role", Role)
def test_goaway_is_allowed_in_every_state_that_is_listed(role: Role) -> None:
    assert all(FrameType.GOAWAY in allowed for allowed in MAY_SEND[role].values())
    assert State.CLOSED not in MAY_SEND[role]


@pytest.mark.parametrize("kind", FrameType)
def test_every_type_may_be_sent_by_someone(kind: FrameType) -> None:
    senders = [
        role for role, states in MAY_SEND.items() if any(kind in allowed for allowed in states.values())
    ]
    both = {FrameType.HELLO, FrameType.GOAWAY, FrameType.PING, FrameType.PONG, FrameType.ACK}
    assert len(senders) == (2 if kind in both else 1)


def test_no_call_frame_is_allowed_before_the_connection_is_open() -> None:
    for states in MAY_SEND.values():
        for state, allowed in states.items():
            assert state is State.OPEN or all(kind < FrameType.CALL for kind in allowed)


def test_peers_are_each_others() -> None:
    assert {role: peer_of(role) for role in Role} == {Role.GUEST: Role.HOST, Role.HOST: Role.GUEST}
