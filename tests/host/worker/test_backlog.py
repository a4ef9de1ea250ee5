"""What waits in a worker, and whose it may be."""

from __future__ import annotations

import pytest

from mlxbridge.errors import Overloaded
from mlxbridge.host.engine.interface import Origin
from mlxbridge.host.worker.backlog import MAX_BYTES, Backlog

LARGE = {"prompt": "x" * (MAX_BYTES // 64)}
MANY, FEW = Origin(guest="many"), Origin(guest="few")


def fill(backlog: Backlog, origin: Origin) -> int:
    """Add calls until one is refused; how many there are."""
    with pytest.raises(Overloaded, match="MiB of calls wait"):
        for _ in range(100):
            backlog.add(1000 + len(backlog), LARGE, origin)
    return len(backlog)


def test_a_guest_leaves_room_for_others() -> None:
    backlog = Backlog()
    assert 40 < fill(backlog, MANY) < 50
    backlog.add(1, LARGE, FEW)
    assert backlog.remove(1)
    assert not backlog.remove(1)


def test_what_is_taken_makes_room() -> None:
    backlog = Backlog()
    most = fill(backlog, MANY)
    while backlog:
        backlog.take_some()
    assert fill(backlog, MANY) == most


def test_guests_take_turns() -> None:
    backlog = Backlog()
    for call in range(1, 6):
        backlog.add(call, {"prompt": "a"}, MANY)
    backlog.add(6, {"prompt": "a"}, FEW)
    assert [call for call, _, _ in backlog.take_some()] == [1, 6, 2, 3, 4, 5]
