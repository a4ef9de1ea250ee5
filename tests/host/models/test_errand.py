"""Short processes: what they say, and that they are gone."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import InternalError, ModelLoadFailed
from mlxbridge.host.models import machine
from mlxbridge.host.models.errand import run_errand
from mlxbridge.host.models.machine import survey_machine

HUB: dict[str, Any] = {"name": "nobody/no-such-model", "kind": "hub", "folder": None}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Process ids of all errands."""
    pids: list[int] = []
    real = asyncio.create_subprocess_exec

    async def start(*arguments: Any, **others: Any) -> asyncio.subprocess.Process:
        process = await real(*arguments, **others)
        pids.append(process.pid)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    return pids


def are_gone(pids: list[int]) -> bool:
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    return bool(pids)


async def test_machine_says_what_it_is(started: list[int]) -> None:
    found = await survey_machine()
    assert found.chip
    assert 0 < found.usable_bytes < found.memory_bytes
    assert are_gone(started)


async def test_machine_that_does_not_answer_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "TIMEOUT_S", 0.0)
    with pytest.raises(InternalError, match="did not say what it has within 0 s"):
        await survey_machine()


async def test_fetch_says_why_it_cannot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, started: list[int]
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelLoadFailed, match="HF_HUB_OFFLINE is set"):
        await run_errand("fetch", HUB)
    assert are_gone(started)


async def test_model_that_is_here_is_fetched_at_once() -> None:
    folder = {"name": "a", "kind": "folder", "folder": "/models/a"}
    assert await run_errand("fetch", folder) == folder


async def test_errand_that_dies_without_a_word_is_an_error(started: list[int]) -> None:
    with pytest.raises(InternalError, match="no-such-errand ended with status 2 and without an answer"):
        await run_errand("no-such-errand", {})
    assert are_gone(started)


async def test_cancelled_errand_ends(started: list[int]) -> None:
    task = asyncio.ensure_future(run_errand("machine", {}))
    while not started:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert are_gone(started)
