"""Short processes: what they say, and that they are gone."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import InternalError, ModelLoadFailed
from mlxbridge.host.models import machine
from mlxbridge.host.models.errand import run_errand
from mlxbridge.host.models.machine import survey_machine
from tests.helpers.hub import Repository, run_hub

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


def test_download_ends_with_the_front_wherever_it_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a front that dies does everywhere is to close its pipes."""
    files = {"config.json": b"{}", "model.safetensors": bytes(3 << 20)}
    with run_hub(org__slow=Repository(files=files, stall_at=1 << 20)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        module = [sys.executable, "-P", "-m", "mlxbridge.host.worker.errand"]
        with subprocess.Popen(
            [*module, "pull", "--front", str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(json.dumps({"name": "org/slow"}).encode() + b"\n")
                process.stdin.flush()
                assert b"bytes_done" in process.stdout.readline()
                process.stdin.close()
                assert process.wait(10) == 1
            finally:
                process.kill()
                hub.repositories["org/slow"].go_on.set()
