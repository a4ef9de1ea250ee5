"""How a worker ends calls."""

from __future__ import annotations

import pytest

from mlxbridge.errors import BridgeError, InternalError, InvalidArgument
from mlxbridge.host.worker.results import fail_call
from mlxbridge.protocol.events import CallOpened, ErrorReceived
from mlxbridge.protocol.guest import GuestConnection
from mlxbridge.protocol.host import HostConnection


def connect() -> tuple[GuestConnection, HostConnection]:
    """Both ends of a connection, with their hands shaken."""
    guest = GuestConnection(software="guest", nonce=bytes(32))
    host = HostConnection(software="host", nonce=bytes(32))
    while not guest.ready:
        exchange(guest, host)
    return guest, host


def exchange(guest: GuestConnection, host: HostConnection) -> None:
    for data in guest.data_to_send():
        host.receive_data(bytes(data))
    for data in host.data_to_send():
        guest.receive_data(bytes(data))


@pytest.mark.parametrize(("error", "num_lines"), [(InternalError("a bug"), 1), (InvalidArgument("no"), 0)])
def test_a_fault_is_in_the_log_under_the_name_that_the_guest_knows(
    error: BridgeError, num_lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    guest, host = connect()
    guest.events()
    call = guest.open_call("generate", {})
    exchange(guest, host)
    (opened,) = [event for event in host.events() if isinstance(event, CallOpened)]
    host.name_call(opened.call, "abc-7")
    fail_call(host, opened.call, error)
    exchange(guest, host)
    (ended,) = [event for event in guest.events() if isinstance(event, ErrorReceived)]
    assert (ended.call, ended.error.request_id) == (call, "abc-7")
    lines = [(record.getMessage(), record.__dict__["fields"]) for record in caplog.records]
    assert lines == [("request abc-7: a bug", {"request_id": "abc-7"})] * num_lines
