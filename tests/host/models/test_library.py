"""What guests may pull and delete; no process is started for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from mlxbridge.errors import InternalError, ModelNotFound, PermissionDenied, Unavailable
from mlxbridge.host.models import library as library_module
from mlxbridge.host.models import model as model_module
from mlxbridge.host.models import pulls as pulls_module
from mlxbridge.host.models import upkeep as upkeep_module
from mlxbridge.host.models.catalogue import Catalogue
from mlxbridge.host.models.library import SHOWS_AT_ONCE, Library
from mlxbridge.host.models.model import Model
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import ModelSource, classify, hub_source
from tests.host.models.fake_worker import FakeWorker
from tests.host.models.plenty import plenty

DEMO = classify("demo")


def run_by_default(source: ModelSource) -> ModelSettings:
    return ModelSettings(name=source.name, source=source, preload=False)


@pytest.fixture
def errands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    asked: list[tuple[str, str]] = []

    async def run_errand(name: str, params: Mapping[str, Any], progress: Any = None) -> Mapping[str, Any]:
        asked.append((name, params["name"]))
        return {"freed_bytes": 7} if name == "delete" else {"brought": params["name"] != "org/here"}

    monkeypatch.setattr(library_module, "run_errand", run_errand)
    monkeypatch.setattr(pulls_module, "run_errand", run_errand)
    return asked


def catalogue_of(*models: ModelSettings) -> Catalogue:
    return Catalogue(models, plenty())


def ignore(item: Mapping[str, Any]) -> None:
    pass


async def test_pulled_model_is_served_by_its_id_until_it_is_deleted(errands: list[tuple[str, str]]) -> None:
    catalogue = catalogue_of(ModelSettings(name="demo", source=DEMO))
    library = Library(catalogue, run_by_default)
    model = await library.pull("org/name", ignore)
    assert catalogue.find("org/name") is model
    assert await library.pull("org/name", ignore) is model
    assert await library.delete(model, force=False) == {"name": "org/name", "freed_bytes": 7}
    with pytest.raises(ModelNotFound):
        catalogue.find("org/name")
    assert errands == [("pull", "org/name")] * 2 + [("delete", "org/name")]


async def test_pull_of_what_is_configured_brings_its_newest_version_and_no_second_model(
    errands: list[tuple[str, str]],
) -> None:
    configured = ModelSettings(name="org/name", source=hub_source("org/name"))
    catalogue = catalogue_of(configured)
    library = Library(catalogue, run_by_default)
    model = await library.pull("org/name", ignore)
    assert model.settings is configured
    with pytest.raises(PermissionDenied, match="not pulled"):
        await library.delete(model, force=True)
    assert errands == [("pull", "org/name")]


async def test_files_that_a_configured_model_needs_are_not_deleted(errands: list[tuple[str, str]]) -> None:
    chat = ModelSettings(name="chat", source=DEMO, draft=hub_source("org/name"))
    catalogue = catalogue_of(chat)
    library = Library(catalogue, run_by_default)
    model = await library.pull("org/name", ignore)
    with pytest.raises(PermissionDenied, match="^chat of this host's configuration needs the same files"):
        await library.delete(model, force=True)
    assert ("delete", "org/name") not in errands


async def test_what_guests_had_pulled_is_served_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_errand(name: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        assert name == "pulled"
        return {"models": {"org/theirs": True, "org/found": False, "org/chat": True}}

    monkeypatch.setattr(library_module, "run_errand", run_errand)
    chat = ModelSettings(name="org/chat", source=hub_source("org/chat"))
    catalogue = catalogue_of(chat)
    library = Library(catalogue)
    await library.recall()  # guests may not pull here
    assert [model.name for model in catalogue] == ["org/chat"]
    library.make_settings = run_by_default
    await library.recall()
    assert [model.name for model in catalogue] == ["org/chat", "org/theirs", "org/found"]
    assert library.pulled == {"org/theirs", "org/found"}
    assert catalogue.find("org/chat").settings is chat
    with pytest.raises(PermissionDenied, match="on this machine before"):
        await library.delete(catalogue.find("org/found"), force=True)


async def test_host_starts_though_nobody_says_what_guests_had_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_errand(name: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        raise InternalError("no cache")

    monkeypatch.setattr(library_module, "run_errand", run_errand)
    catalogue = catalogue_of(ModelSettings(name="demo", source=DEMO))
    await Library(catalogue, run_by_default).recall()
    assert [model.name for model in catalogue] == ["demo"]


async def test_host_that_does_not_allow_it_does_nothing(errands: list[tuple[str, str]]) -> None:
    catalogue = catalogue_of(ModelSettings(name="demo", source=DEMO))
    library = Library(catalogue)
    with pytest.raises(PermissionDenied, match="allow_pull"):
        await library.pull("org/name", ignore)
    with pytest.raises(PermissionDenied):
        await library.delete(catalogue.find("demo"), force=True)
    assert errands == []


@pytest.mark.parametrize("name", ["demo", "", "/etc", "./org/name", "../x/y", "org/../name", "~/x"])
async def test_nothing_but_a_hub_id_can_be_pulled(errands: list[tuple[str, str]], name: str) -> None:
    library = Library(catalogue_of(ModelSettings(name="demo", source=DEMO)), run_by_default)
    with pytest.raises(ModelNotFound, match="is no Hugging Face id"):
        await library.pull(name, ignore)
    assert errands == []


async def test_files_that_were_here_before_a_guest_pulled_them_are_not_a_guests_to_delete(
    errands: list[tuple[str, str]],
) -> None:
    library = Library(catalogue_of(ModelSettings(name="demo", source=DEMO)), run_by_default)
    model = await library.pull("org/here", ignore)
    with pytest.raises(PermissionDenied, match="on this machine before it was pulled"):
        await library.delete(model, force=True)
    assert ("delete", "org/here") not in errands


async def test_pull_that_is_forbidden_meanwhile_serves_nothing(errands: list[tuple[str, str]]) -> None:
    catalogue = catalogue_of(ModelSettings(name="demo", source=DEMO))
    library = Library(catalogue, run_by_default)
    pulling = asyncio.ensure_future(library.pull("org/name", ignore))
    await asyncio.sleep(0)
    library.make_settings = None
    with pytest.raises(PermissionDenied, match="allow_pull"):
        await pulling
    assert [model.name for model in catalogue] == ["demo"]


async def load_slow_to_stop(model: Model, monkeypatch: pytest.MonkeyPatch) -> FakeWorker:
    """A worker that ends when the test says so."""

    async def fetch_files(source: ModelSource, tell: Any) -> ModelSource:
        return DEMO

    FakeWorker.started = []
    monkeypatch.setattr(upkeep_module, "Worker", FakeWorker)
    monkeypatch.setattr(model_module, "fetch_files", fetch_files)
    loading = asyncio.ensure_future(model.load())
    worker = await FakeWorker.of(model.name)
    worker.become_ready()
    await loading
    worker.may_stop.clear()
    return worker


async def begin_deletion(library: Library, model: Model) -> asyncio.Task[Mapping[str, Any]]:
    """Its worker is being told to end, and has not ended yet."""
    deleting = asyncio.ensure_future(library.delete(model, force=True))
    while model.state != "unloading":
        await asyncio.sleep(0)
    return deleting


async def test_pull_of_what_is_being_deleted_brings_it_back_after_that(
    errands: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = catalogue_of(ModelSettings(name="demo", source=DEMO))
    library = Library(catalogue, run_by_default)
    model = await library.pull("org/name", ignore)
    worker = await load_slow_to_stop(model, monkeypatch)
    deleting = await begin_deletion(library, model)
    pulling = asyncio.ensure_future(library.pull("org/name", ignore))
    await asyncio.sleep(0.01)
    worker.may_stop.set()
    async with asyncio.timeout(10):
        assert await deleting == {"name": "org/name", "freed_bytes": 7}
        back = await pulling
    assert catalogue.find("org/name") is back
    assert errands == [("pull", "org/name"), ("delete", "org/name"), ("pull", "org/name")]


async def test_deletion_goes_on_though_nobody_waits_for_it(
    errands: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = catalogue_of(ModelSettings(name="demo", source=DEMO))
    library = Library(catalogue, run_by_default)
    model = await library.pull("org/name", ignore)
    worker = await load_slow_to_stop(model, monkeypatch)
    deleting = await begin_deletion(library, model)
    deleting.cancel()
    await asyncio.gather(deleting, return_exceptions=True)
    worker.may_stop.set()
    async with asyncio.timeout(10):
        while ("delete", "org/name") not in errands:
            await asyncio.sleep(0)
    assert model.state == "unloaded"


async def test_deletion_is_refused_when_the_model_is_configured_meanwhile(
    errands: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = catalogue_of()
    library = Library(catalogue, run_by_default)
    model = await library.pull("org/name", ignore)
    worker = await load_slow_to_stop(model, monkeypatch)
    deleting = await begin_deletion(library, model)
    catalogue.serve([run_by_default(hub_source("org/name"))], drain_s=0.0)
    worker.may_stop.set()
    async with asyncio.timeout(10):
        with pytest.raises(PermissionDenied, match="configured to serve it now"):
            await deleting
    assert ("delete", "org/name") not in errands


async def test_model_that_is_being_downloaded_again_is_not_deleted(
    monkeypatch: pytest.MonkeyPatch, errands: list[tuple[str, str]]
) -> None:
    library = Library(catalogue_of(), run_by_default)
    model = await library.pull("org/name", ignore)
    again = asyncio.ensure_future(library.pull("org/name", ignore))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="is being downloaded"):
        await library.delete(model, force=True)
    await again


async def test_few_models_are_looked_at_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running: set[int] = set()
    most = 0

    async def run_errand(name: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        nonlocal most
        number = len(running)
        running.add(number)
        most = max(most, len(running))
        await asyncio.sleep(0)
        running.discard(number)
        return {"disk_bytes": 1}

    monkeypatch.setattr(library_module, "run_errand", run_errand)
    catalogue = catalogue_of(ModelSettings(name="demo", source=DEMO))
    library = Library(catalogue)
    model = catalogue.find("demo")
    shown = await asyncio.gather(*(library.show(model) for _ in range(5 * SHOWS_AT_ONCE)))
    assert {each["disk_bytes"] for each in shown} == {1}
    assert most == SHOWS_AT_ONCE
