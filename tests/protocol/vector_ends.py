"""The receivers that the vectors of single frames are fed to (SPEC.md §14)."""

from mlxbridge.protocol import Windows
from mlxbridge.protocol.connection import Connection
from tests.helpers.wire import SECRET, make_guest, make_host, make_pair, open_calls, unsent

CALL_THREE = Windows(items=256, bytes=8)
"""So that a piece of nine bytes has no credit."""


def end_in_state(role: str, state: str) -> Connection:
    """hello: nothing received. auth, ready: the peer's HELLO received. open: calls 1, 2 and 3 are open on both sides."""
    match role, state:
        case "guest", "hello":
            return make_guest()
        case "host", "hello":
            return make_host()
        case "host", "auth":
            host = make_host(tokens={"default": SECRET})
            host.receive_data(unsent(make_guest()))
            return host
        case "guest", "ready":
            guest, host = make_guest(), make_host()
            host.receive_data(unsent(guest))
            hello_and_ready = unsent(host)
            guest.receive_data(hello_and_ready[: -len(READY)])
            assert guest.handshaking
            return guest
    assert state == "open"
    guest, host = make_pair()
    open_calls(guest, host, 2)
    open_calls(guest, host, 1, CALL_THREE)
    return guest if role == "guest" else host


READY = bytes.fromhex("0100000001000000000000000300000080")
