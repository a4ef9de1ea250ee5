"""Events as people read them."""

from __future__ import annotations

import time

from mlxbridge.commands.events import describe_event
from mlxbridge.events import Event, GuestEvent, ModelEvent, RequestEvent

AT = time.mktime((2026, 1, 2, 12, 30, 5, 0, 0, -1))


def test_event_is_one_line() -> None:
    event = ModelEvent(at=AT, model="démo", state="failed", reason="it broke")
    assert describe_event(event) == "12:30:05 model démo failed it broke"


def test_what_others_wrote_does_nothing_to_a_terminal() -> None:
    odd = "x\x1b[2J\n\x9b\u2028é"
    events: list[Event] = [
        RequestEvent(at=AT, request_id="a-1", method=odd, guest="connection 1", error="UnknownMethod"),
        ModelEvent(at=AT, model="demo", state="failed", reason=odd),
        GuestEvent(kind="gone", at=AT, guest=odd),
    ]
    for event in events:
        line = describe_event(event)
        assert line.isprintable() and r"x\x1b[2J\n\x9b\u2028é" in line
