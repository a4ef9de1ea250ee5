"""Supervision, with real worker processes and a real, tiny model."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import (
    BridgeError,
    DeadlineExceeded,
    ModelLoadFailed,
    ModelTooLarge,
    Unavailable,
    Unsupported,
    WorkerLost,
)
from mlxbridge.host.engine.interface import EngineLimits, Origin
from mlxbridge.host.models import crashes
from mlxbridge.host.models import process as process_module
from mlxbridge.host.models.job import Job
from mlxbridge.host.models.model import Model
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.protocol.parts import Part
from tests.host.engine.tiny import byte_level_tokenizer, save_model, save_tokenizer
from tests.host.models.plenty import plenty


class Sink:
    """A guest's session, as a model sees it."""

    def __init__(self) -> None:
        self.tokens: dict[int, list[int]] = {}
        self.items: dict[int, list[Any]] = {}
        self.ends: dict[int, Mapping[str, Any] | BridgeError] = {}
        self.changed = asyncio.Event()

    def send_tokens(
        self,
        calls: Sequence[int],
        token_ids: Sequence[list[int]],
        texts: Sequence[str],
        logprobs: Sequence[list[bytes] | None] | None = None,
        parts: Sequence[list[Part] | None] | None = None,
    ) -> None:
        for call, ids in zip(calls, token_ids, strict=True):
            self.tokens.setdefault(call, []).extend(ids)

    def send_item(self, call: int, value: Any) -> None:
        self.items.setdefault(call, []).append(value)
        self.changed.set()

    def begin_data(self, *begun: Any) -> None:
        raise AssertionError("nothing here has payloads")

    def continue_data(self, call: int, data: memoryview) -> None:
        raise AssertionError("nothing here has payloads")

    def finish(self, call: int, result: Mapping[str, Any]) -> None:
        self.ends[call] = result

    def fail(self, call: int, error: BridgeError) -> None:
        self.ends[call] = error

    def flush(self) -> None:
        self.changed.set()

    async def until(self, *calls: int) -> None:
        while not all(call in self.ends for call in calls):
            await self.until_changed()

    async def until_changed(self) -> None:
        await asyncio.wait_for(self.changed.wait(), 30)
        self.changed.clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_model(path)
    save_tokenizer(byte_level_tokenizer(), path)
    return path


@pytest.fixture
async def model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Model]:
    monkeypatch.setattr(crashes, "BACKOFF_FIRST_S", 0.01)
    made = Model(ModelSettings.of(str(folder)), plenty())
    yield made
    await made.unload()


def job(sink: Sink, call: int, **params: Any) -> Job:
    return Job(sink, call, "generate", {"prompt": "hello", "max_tokens": 4, **params})


async def test_calls_made_while_loading_are_answered_unless_they_are_cancelled(model: Model) -> None:
    sink, unwanted = Sink(), Sink()
    for call in range(3):
        model.submit(job(sink, call))
    cancelled = job(unwanted, 3)
    model.submit(cancelled)
    assert model.state == "loading"
    model.cancel(cancelled)
    await sink.until(0, 1, 2)
    assert sink.ends[0] == {**sink.ends[0], "model": "tiny"}  # type: ignore[dict-item]
    assert model.state == "ready"
    assert model.describe()["architecture"] == "LlamaForCausalLM"
    assert not unwanted.ends and not unwanted.tokens


async def test_nothing_is_loaded_for_what_the_model_is_not_for(model: Model) -> None:
    sink = Sink()
    model.submit(Job(sink, 1, "rerank", {"query": "a", "documents": ["b"]}))
    assert isinstance(sink.ends[1], Unsupported) and "not a reranker" in sink.ends[1].message
    assert model.state == "unloaded"


async def test_limits_and_deadlines_reach_the_engine(folder: Path) -> None:
    limited = Model(
        ModelSettings.of(
            str(folder), limits=EngineLimits(max_batch=3, kv_bytes=1 << 20, prefix_cache_bytes=0)
        ),
        plenty(),
    )
    await limited.load()
    entry = await limited.report()
    assert (entry["max_batch"], entry["kv_bytes_budget"]) == (3, 1 << 20)
    assert entry["waiting_low"] == entry["preemptions_total"] == entry["kv_bytes_used"] == 0
    sink = Sink()
    late = Origin(guest="a", deadline_at=time.monotonic() - 1)
    limited.submit(Job(sink, 1, "generate", {"prompt": "hello"}, late))
    limited.submit(job(sink, 2))
    await sink.until(1, 2)
    assert isinstance(sink.ends[1], DeadlineExceeded)
    assert isinstance(sink.ends[2], dict)
    assert (await limited.report())["expired_total"] == 1
    await limited.unload()


async def test_more_memory_than_there_is_is_refused_with_both_numbers(folder: Path) -> None:
    model = Model(ModelSettings.of(str(folder), limits=EngineLimits(kv_bytes=1 << 43)), plenty())
    with pytest.raises(
        ModelTooLarge, match="tiny needs 9,216.00 GB .* but there are 48.00 GB for it"
    ) as caught:
        await model.load()
    assert caught.value.details["needed_bytes"] > caught.value.details["budget_bytes"] == 48 << 30
    assert model.state == "failed"


async def test_deadlines_that_the_front_or_the_guest_sees_first_are_counted(model: Model) -> None:
    sink = Sink()
    now = time.monotonic()
    waiting = Job(sink, 1, "generate", {"prompt": "hello"}, Origin(deadline_at=now))
    model.submit(waiting)
    model.cancel(waiting)
    await model.load()
    running = {
        call: Job(
            sink, call, "generate", {"prompt": "hello", "ignore_eos": True}, Origin(deadline_at=now + left)
        )
        for call, left in ((2, 60), (3, 120))
    }
    for each in running.values():
        model.submit(each)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.monotonic", lambda: now + 60)
        for each in running.values():
            model.cancel(each)
    assert (await model.report())["expired_total"] == 2
    os.kill((await model.report())["pid"], signal.SIGKILL)
    while model.state == "ready":
        await asyncio.sleep(0.001)
    assert (await model.report())["expired_total"] == 2


async def test_model_that_cannot_be_loaded_fails_until_asked_again(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    made = Model(ModelSettings.of(str(broken)), plenty())
    (broken / "model.safetensors").write_bytes(b"not safetensors")
    sink = Sink()
    made.submit(job(sink, 1))
    await sink.until(1)
    assert isinstance(sink.ends[1], ModelLoadFailed)
    assert made.state == "failed"
    made.submit(job(sink, 2))
    assert isinstance(sink.ends[2], ModelLoadFailed)
    shutil.copy(folder / "model.safetensors", broken)
    await made.load()
    assert made.state == "ready"
    await made.unload()


async def test_worker_that_dies_over_and_over_is_given_up(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crashes, "CRASHES_TO_FAIL", 2)
    for _ in range(2):
        await model.load()
        pid = (await model.report())["pid"]
        os.kill(pid, signal.SIGKILL)
        while model.state == "ready":
            await asyncio.sleep(0.001)
    while model.state == "restarting":
        await asyncio.sleep(0.001)
    assert model.state == "failed"
    sink = Sink()
    model.submit(job(sink, 1))
    error = sink.ends[1]
    assert isinstance(error, WorkerLost)
    assert not error.retryable
    assert "SIGKILL" in error.message
    entry = await model.report()
    told = {"state": "failed", "crash_loop": True, "crashes": 2, "last_crash": "was killed by SIGKILL"}
    assert {name: entry[name] for name in told} == told
    assert "pid" not in entry and "reserved_bytes" not in entry
    await model.load()  # somebody asks for it again
    assert model.state == "ready"
    assert "crash_loop" not in model.describe()


async def test_unload_fails_what_runs_and_ends_the_process(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "STOP_TIMEOUT_S", 0.1)
    await model.load()
    pid = (await model.report())["pid"]
    os.kill(pid, signal.SIGSTOP)  # so that the call cannot come to an end of its own before
    sink = Sink()
    model.submit(job(sink, 1))
    await model.unload()
    assert isinstance(sink.ends[1], Unavailable)
    assert model.state == "unloaded"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def resident_bytes(pid: int) -> int:
    """What a process holds of the machine's memory; 0 if it is gone, waited for and all."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return 0


@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read from /proc")
async def test_loads_share_one_worker_and_unload_gives_its_memory_back_to_the_system(model: Model) -> None:
    await asyncio.gather(model.load(), model.load(), model.load())
    entry = await model.report()
    await model.load()
    assert (await model.report())["pid"] == entry["pid"]
    assert resident_bytes(entry["pid"]) > entry["used_bytes"] > entry["bytes"] > 0
    assert entry["reserved_bytes"] == 48 << 30 > entry["estimated_bytes"]
    await model.unload()
    assert resident_bytes(entry["pid"]) == 0
    assert "reserved_bytes" not in model.describe()


async def test_worker_keeps_to_the_credit_that_is_passed_on_and_its_death_takes_no_item_back(
    model: Model,
) -> None:
    sink = Sink()
    params = {"requests": [{"prompt": "hello"}] * 50, "max_tokens": 4, "ignore_eos": True}
    many = Job(sink, 1, "generate_many", params, items=2)
    model.submit(many)
    while len(sink.items.get(1, [])) < 2:
        await sink.until_changed()
    entry = await model.report()
    assert (entry["running"], entry["requests_waiting"]) == (0, 48)
    model.grant(many, 7)
    while len(sink.items[1]) < 7:
        await sink.until_changed()
    entry = await model.report()
    assert (entry["running"], entry["requests_waiting"]) == (0, 43)
    os.kill(entry["pid"], signal.SIGKILL)
    await sink.until(1)
    error = sink.ends[1]
    assert isinstance(error, WorkerLost) and error.retryable
    assert sorted(item["index"] for item in sink.items[1]) == list(range(7))


async def test_job_is_told_its_end_once(model: Model) -> None:
    sink = Sink()
    done = job(sink, 1)
    done.finish({"first": True})
    done.fail(Unavailable("too late"))
    assert sink.ends[1] == {"first": True}
