"""Models that come, go and change while a host serves them. Workers do as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import (
    BridgeError,
    InternalError,
    ModelLoadFailed,
    ModelNotFound,
    Unavailable,
    UsageError,
)
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.models import upkeep as upkeep_module
from mlxbridge.host.models.catalogue import Catalogue, Changes
from mlxbridge.host.models.job import Job
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import ModelSource, classify
from tests.host.models.fake_worker import FakeWorker
from tests.host.models.plenty import plenty

DEMO = classify("demo")
LONG_S = 60.0


class Sink:
    def __init__(self) -> None:
        self.ends: dict[int, Mapping[str, Any] | BridgeError] = {}

    def send_tokens(self, *columns: Any) -> None: ...

    def send_item(self, call: int, value: Any) -> None: ...

    def begin_data(self, *begun: Any) -> None: ...

    def continue_data(self, call: int, data: memoryview) -> None: ...

    def finish(self, call: int, result: Mapping[str, Any]) -> None:
        self.ends[call] = result

    def fail(self, call: int, error: BridgeError) -> None:
        self.ends[call] = error

    def flush(self) -> None: ...


def settings(name: str, **others: Any) -> ModelSettings:
    return ModelSettings(name=name, **{"source": DEMO, "keep_alive_s": None, **others})


@pytest.fixture
async def catalogue(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Catalogue]:
    FakeWorker.started = []
    monkeypatch.setattr(upkeep_module, "Worker", FakeWorker)
    catalogue = Catalogue([settings("a"), settings("b", aliases=("x",))], plenty())
    yield catalogue
    await catalogue.close()


async def run_call(catalogue: Catalogue, name: str, sink: Sink, call: int = 1) -> tuple[FakeWorker, Job]:
    """A call that the model's worker has."""
    job = Job(sink, call, "generate", {"prompt": "hello"})
    model = catalogue.find(name)
    model.submit(job)
    worker = await FakeWorker.of(model.name)
    if not worker.jobs:
        worker.become_ready()
    while job not in worker.jobs:
        await asyncio.sleep(0)
    return worker, job


async def until_gone(catalogue: Catalogue) -> None:
    while catalogue._retiring:
        await asyncio.sleep(0)


def names(catalogue: Catalogue) -> list[str]:
    return [model.name for model in catalogue]


async def test_difference_to_what_is_served_is_made_and_told(catalogue: Catalogue) -> None:
    wanted = [settings("b", aliases=("y",)), settings("c", aliases=("x",))]
    changes = catalogue.serve(wanted, drain_s=0)
    assert changes == Changes(added=["c"], removed=["a"], changed=["b"])
    assert names(catalogue) == ["b", "c"]
    assert catalogue.find("x").name == "c"
    assert catalogue.find("y").name == "b"
    with pytest.raises(ModelNotFound):
        catalogue.find("a")
    assert catalogue.serve(wanted, drain_s=0) == Changes()


async def test_model_that_goes_ends_its_calls_first(catalogue: Catalogue) -> None:
    sink = Sink()
    worker, job = await run_call(catalogue, "a", sink)
    catalogue.serve([settings("b")], drain_s=LONG_S)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not worker.stopped
    worker.answer(job)
    await until_gone(catalogue)
    assert worker.stopped
    assert sink.ends == {1: {"model": "fake"}}
    assert catalogue.memory.describe()["reserved_bytes"] == 0


async def test_model_that_goes_does_not_wait_for_its_calls_for_ever(catalogue: Catalogue) -> None:
    sink = Sink()
    worker, _ = await run_call(catalogue, "a", sink)
    await catalogue.remove(catalogue.find("a"), drain_s=0)
    assert worker.stopped
    assert isinstance(sink.ends[1], Unavailable)


async def test_model_that_comes_back_before_it_has_gone_goes_on(catalogue: Catalogue) -> None:
    sink = Sink()
    model = catalogue.find("a")
    worker, job = await run_call(catalogue, "a", sink)
    catalogue.serve([], drain_s=LONG_S)
    assert names(catalogue) == []
    catalogue.serve([settings("a", aliases=("z",))], drain_s=LONG_S)
    assert catalogue.find("z") is model
    await until_gone(catalogue)
    worker.answer(job)
    assert not worker.stopped
    assert model.state == "ready"


async def test_model_that_comes_back_just_when_it_has_gone_is_served_anew(catalogue: Catalogue) -> None:
    model = catalogue.find("a")
    going = catalogue.remove(model, drain_s=LONG_S)
    while not going.done():
        await asyncio.sleep(0)
    catalogue.serve([settings("a")], drain_s=LONG_S)
    loading = asyncio.ensure_future(catalogue.find("a").load())
    async with asyncio.timeout(10):
        (await FakeWorker.of("a")).become_ready()
        await loading
    assert catalogue.find("a") is not model


async def test_model_whose_waiting_calls_were_ended_goes_at_once(catalogue: Catalogue) -> None:
    sink = Sink()
    model = catalogue.find("a")
    model.submit(Job(sink, 1, "generate", {"prompt": "hello"}))
    await model.unload()
    assert isinstance(sink.ends[1], Unavailable)
    async with asyncio.timeout(10):
        await catalogue.remove(model, drain_s=LONG_S)


async def test_model_that_is_loaded_otherwise_drains_and_calls_that_wait_load_it_again(
    catalogue: Catalogue,
) -> None:
    sink = Sink()
    worker, job = await run_call(catalogue, "a", sink)
    limits = EngineLimits(max_batch=3)
    changes = catalogue.serve([settings("a", limits=limits), settings("b", aliases=("x",))], drain_s=0)
    assert changes == Changes(reloaded=["a"])
    assert "architecture" not in catalogue.find("a").describe()  # of what it was loaded with
    later = Job(sink, 2, "generate", {"prompt": "hello"})
    catalogue.find("a").submit(later)
    worker.answer(job)
    after = await FakeWorker.number(2)
    while not after.params:
        await asyncio.sleep(0)
    assert worker.stopped
    assert after.params["limits"]["max_batch"] == 3
    after.become_ready()
    while later not in after.jobs:
        await asyncio.sleep(0)
    assert sink.ends == {1: {"model": "fake"}}


async def test_other_terms_hold_at_once_for_a_model_that_stays_loaded(catalogue: Catalogue) -> None:
    worker, job = await run_call(catalogue, "a", Sink())
    worker.answer(job)
    model = catalogue.find("a")
    changes = catalogue.serve([settings("a", pin=True, keep_alive_s=9.0)], drain_s=0)
    assert changes.changed == ["a"]
    assert not worker.stopped
    entry = model.describe()
    assert (entry["pinned"], entry["keep_alive_s"], entry["state"]) == (True, 9.0, "ready")
    assert entry["architecture"] == "Fake"


@pytest.mark.parametrize("others", [{"max_context": 100}, {"sampling": {"top_p": 0.5}}])
async def test_model_that_has_failed_may_be_right_with_other_settings(
    catalogue: Catalogue, others: dict[str, Any]
) -> None:
    model = catalogue.find("a")
    loading = asyncio.ensure_future(model.load())
    (await FakeWorker.of("a")).refuse(ModelLoadFailed("it is none"))
    with pytest.raises(ModelLoadFailed):
        await loading
    assert model.state == "failed"
    assert catalogue.serve([settings("a", **others)], drain_s=0).reloaded == ["a"]
    assert model.state == "unloaded"
    assert "error" not in model.describe()


async def test_model_whose_files_are_very_odd_keeps_no_other_from_loading(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("[" * 200_000)  # the parser's recursion has an end
    odd = ModelSource(name="odd", kind="folder", folder=tmp_path)
    catalogue.serve([settings("a"), settings("odd", source=odd)], drain_s=0)
    loading = asyncio.ensure_future(catalogue.find("a").load())
    async with asyncio.timeout(10):
        (await FakeWorker.of("a")).become_ready()
        await loading
        with pytest.raises(InternalError, match="RecursionError"):
            await catalogue.find("odd").load()


async def test_model_cannot_be_added_under_a_name_that_is_taken(catalogue: Catalogue) -> None:
    for name in ("a", "x"):
        with pytest.raises(UsageError, match=f"two models would be named {name}"):
            catalogue.add(settings(name))
    assert names(catalogue) == ["a", "b"]
