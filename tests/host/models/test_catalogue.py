from __future__ import annotations

from pathlib import Path

import pytest

from mlxbridge.errors import InvalidArgument, ModelNotFound, UsageError
from mlxbridge.host.models.catalogue import Catalogue
from mlxbridge.host.models.settings import ModelSettings
from tests.host.engine.tiny import byte_level_tokenizer, save_model, save_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_model(path)
    save_tokenizer(byte_level_tokenizer(), path)
    return path


def catalogue_of(*models: str | Path) -> Catalogue:
    return Catalogue(ModelSettings.of(str(model)) for model in models)


def test_only_model_needs_no_name(folder: Path) -> None:
    assert catalogue_of(folder).find(None).name == "tiny"


def test_one_of_several_must_be_named(folder: Path) -> None:
    catalogue = catalogue_of(folder, "demo")
    assert catalogue.find("demo").name == "demo"
    with pytest.raises(InvalidArgument, match="tiny, demo"):
        catalogue.find(None)


def test_default_model_needs_no_name_whatever_else_comes(folder: Path) -> None:
    catalogue = Catalogue([ModelSettings.of("demo")], default="demo")
    catalogue.add(ModelSettings.of(str(folder)))  # as a guest's pull does
    assert catalogue.find(None).name == "demo"
    assert catalogue.choose(None) == (catalogue.find("demo"), None)
    assert [entry["default"] for entry in catalogue.describe()] == [True, False]
    catalogue.default = None
    assert [entry["default"] for entry in catalogue.describe()] == [False, False]
    with pytest.raises(InvalidArgument, match="name one of demo, tiny; this host has no default_model"):
        catalogue.find(None)


def test_unknown_model_gets_the_nearest_name(folder: Path) -> None:
    with pytest.raises(ModelNotFound, match="did you mean 'tiny'"):
        catalogue_of(folder).find("tinny")
    with pytest.raises(ModelNotFound, match="it serves tiny"):
        catalogue_of(folder).find("gpt")


def test_two_models_of_one_name_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="two models would be named tiny"):
        catalogue_of(folder, folder)


def test_model_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ModelNotFound):
        catalogue_of("/no/such/folder")


def test_model_is_found_by_its_aliases_too(folder: Path) -> None:
    catalogue = Catalogue(
        [ModelSettings.of(str(folder), aliases=("small", "gpt-4")), ModelSettings.of("demo")]
    )
    assert catalogue.find("gpt-4") is catalogue.find("tiny") is catalogue.find("small")
    assert [model.name for model in catalogue] == ["tiny", "demo"]
    with pytest.raises(UsageError, match="two models would be named demo"):
        Catalogue([ModelSettings.of(str(folder), aliases=("demo",)), ModelSettings.of("demo")])
