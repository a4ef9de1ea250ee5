"""What waits for a model to load, and whose it may be."""

from __future__ import annotations

from typing import Any

import pytest

from mlxbridge.errors import Overloaded
from mlxbridge.host.engine.interface import Origin
from mlxbridge.host.models.backlog import MAX_WAITING, MAX_WAITING_BYTES, Backlog
from mlxbridge.host.models.job import Job


def job(guest: str, prompt: str = "a") -> Job:
    nobody: Any = None
    return Job(nobody, 1, "generate", {"prompt": prompt}, Origin(guest=guest))


@pytest.mark.parametrize(("prompt", "most"), [("a", MAX_WAITING), ("x" * (MAX_WAITING_BYTES // 100), 100)])
def test_a_guest_leaves_room_for_others(prompt: str, most: int) -> None:
    backlog = Backlog("demo")
    jobs = []
    with pytest.raises(Overloaded, match="this guest's"):
        for _ in range(most + 1):
            jobs.append(job("many", prompt))
            backlog.add(jobs[-1])
    assert 0.7 * most < len(backlog) < 0.8 * most
    backlog.add(job("few", prompt))
    assert all(backlog.remove(each) for each in jobs[:5])
    assert not backlog.remove(jobs[0])
    backlog.add(job("many", prompt))


def test_what_is_taken_makes_room() -> None:
    backlog = Backlog("demo")
    first = [job("many") for _ in range(5)]
    for each in first:
        backlog.add(each)
    assert backlog.take() == first
    assert len(backlog) == 0
    for _ in range(700):
        backlog.add(job("many"))
