"""What guests may pull and delete; no process is started for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mlxbridge.errors import ModelNotFound, PermissionDenied
from mlxbridge.host.models import library as library_module
from mlxbridge.host.models import pulls as pulls_module
from mlxbridge.host.models.catalogue import Catalogue
from mlxbridge.host.models.library import Library
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import ModelSource, classify, hub_source
from tests.host.models.plenty import plenty

DEMO = classify("demo")


def run_by_default(source: ModelSource) -> ModelSettings:
    return ModelSettings(name=source.name, source=source, preload=False)


@pytest.fixture
def errands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    asked: list[tuple[str, str]] = []

    async def run_errand(name: str, params: Mapping[str, Any], progress: Any = None) -> Mapping[str, Any]:
        asked.append((name, params["name"]))
        return {"freed_bytes": 7} if name == "delete" else {}

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
