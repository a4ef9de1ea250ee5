"""Downloads that several wait for; the process that does them is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mlxbridge.errors import InternalError, ModelNotFound
from mlxbridge.host.models import pulls as pulls_module
from mlxbridge.host.models.pulls import PULLS_AT_ONCE, Pulls


class Errands:
    """Each one ends when the test says so, and notes if it is cancelled."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.ends: list[asyncio.Future[Mapping[str, Any]]] = []
        self.tell: Callable[[Mapping[str, Any]], object] = lambda item: None

    async def run(self, name: str, params: Mapping[str, Any], progress: Any) -> Mapping[str, Any]:
        assert name == "pull"
        self.begun.append(params["name"])
        self.tell = progress
        end: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self.ends.append(end)
        try:
            return await end
        except asyncio.CancelledError:
            self.cancelled.append(params["name"])
            raise


@pytest.fixture
def errands(monkeypatch: pytest.MonkeyPatch) -> Errands:
    errands = Errands()
    monkeypatch.setattr(pulls_module, "run_errand", errands.run)
    return errands


def ended(*, brought: bool = True) -> Mapping[str, Any]:
    return {"folder": "/models/name", "brought": brought}


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_all_who_wait_share_one_download_and_hear_how_far_it_is(errands: Errands) -> None:
    pulls = Pulls()
    told: list[list[Any]] = [[], []]
    first = asyncio.ensure_future(pulls.pull("org/name", told[0].append))
    await settle()
    errands.tell({"bytes_done": 1})
    second = asyncio.ensure_future(pulls.pull("org/name", told[1].append))
    await settle()
    errands.tell({"bytes_done": 2})
    errands.ends[0].set_result(ended())
    await asyncio.gather(first, second)
    assert errands.begun == ["org/name"]
    assert told == [[{"bytes_done": 1}, {"bytes_done": 2}]] * 2


async def test_download_ends_when_the_last_who_waits_gives_up_and_begins_anew_after_that(
    errands: Errands,
) -> None:
    pulls = Pulls()
    tasks = [asyncio.ensure_future(pulls.pull("org/name", lambda item: None)) for _ in range(2)]
    await settle()
    tasks[0].cancel()
    await settle()
    assert errands.cancelled == []
    tasks[1].cancel()
    again = asyncio.ensure_future(pulls.pull("org/name", lambda item: None))
    await settle()
    assert errands.cancelled == ["org/name"]
    errands.ends[1].set_result(ended())
    await again
    assert errands.begun == ["org/name"] * 2


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (ModelNotFound("no such model"), ModelNotFound),
        (OSError("no process"), InternalError),
        (ValueError("a line is too long"), InternalError),
    ],
)
async def test_fault_reaches_all_and_the_next_begins_anew(
    errands: Errands, fault: Exception, error: type[Exception]
) -> None:
    pulls = Pulls()
    tasks = [asyncio.ensure_future(pulls.pull("org/name", lambda item: None)) for _ in range(2)]
    await settle()
    errands.ends[0].set_exception(fault)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [error, error]
    again = asyncio.ensure_future(pulls.pull("org/name", lambda item: None))
    await settle()
    errands.ends[1].set_result(ended())
    await again


async def test_close_ends_what_runs(errands: Errands) -> None:
    pulls = Pulls()
    task = asyncio.ensure_future(pulls.pull("org/name", lambda item: None))
    await settle()
    await pulls.close()
    assert errands.cancelled == ["org/name"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("brought", [False, True])
async def test_pull_tells_whether_guests_have_brought_the_model(errands: Errands, brought: bool) -> None:
    pulling = asyncio.ensure_future(Pulls().pull("org/name", lambda item: None))
    await settle()
    errands.ends[0].set_result(ended(brought=brought))
    assert await pulling is brought


async def test_few_downloads_run_at_once_and_the_others_follow_in_order(errands: Errands) -> None:
    pulls = Pulls()
    names = [f"org/{number}" for number in range(PULLS_AT_ONCE + 2)]
    tasks = [asyncio.ensure_future(pulls.pull(name, lambda item: None)) for name in names]
    await settle()
    assert errands.begun == names[:PULLS_AT_ONCE]
    tasks[PULLS_AT_ONCE].cancel()  # who gives up has no place any more
    await settle()
    errands.ends[0].set_result(ended())
    await settle()
    assert errands.begun == [*names[:PULLS_AT_ONCE], names[-1]]
    for end in errands.ends[1:]:
        end.set_result(ended())
    await asyncio.gather(*tasks, return_exceptions=True)
