"""One attempt, and all who wait for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.models.attempt import Attempt


async def test_all_learn_how_it_ended_and_so_does_who_asks_later() -> None:
    attempt = Attempt()
    waiting = [asyncio.ensure_future(attempt.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert (attempt.num_waiting, attempt.is_over) == (3, False)
    attempt.fail(ModelLoadFailed("broken"))
    attempt.succeed()  # too late
    for each in (*waiting, attempt.wait()):
        with pytest.raises(ModelLoadFailed, match="broken"):
            await each
    assert (attempt.num_waiting, attempt.is_over) == (0, True)


async def test_who_gives_up_takes_nothing_with_him() -> None:
    attempt = Attempt()
    told: list[Any] = []
    impatient = asyncio.ensure_future(attempt.wait(told.append))
    patient = asyncio.ensure_future(attempt.wait())
    await asyncio.sleep(0)
    attempt.tell({"stage": "waiting"})
    impatient.cancel()
    await asyncio.wait({impatient})
    attempt.tell({"stage": "loading"})
    assert (attempt.num_waiting, told) == (1, [{"stage": "waiting"}])
    attempt.succeed()
    await patient


async def test_latecomer_is_told_the_latest_unless_it_was_forgotten() -> None:
    attempt = Attempt()
    attempt.tell({"stage": "fetching"})
    attempt.tell({"stage": "loading"})
    told: list[Any] = []
    first = asyncio.ensure_future(attempt.wait(told.append))
    await asyncio.sleep(0)
    attempt.forget()
    second = asyncio.ensure_future(attempt.wait(told.append))
    await asyncio.sleep(0)
    assert told == [{"stage": "loading"}]
    attempt.succeed()
    await asyncio.gather(first, second)
