from __future__ import annotations

from dataclasses import replace
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
    catalogue.default = None
    with pytest.raises(InvalidArgument, match="name one of demo, tiny; this host has no default_model"):
        catalogue.find(None)


@pytest.fixture(scope="module")
def embedders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folders = [tmp_path_factory.mktemp("models") / name for name in ("finder", "seeker")]
    for path in folders:
        save_model(path)
        save_tokenizer(byte_level_tokenizer(), path)
        (path / "modules.json").write_text("[]")
    return folders


def test_only_model_for_a_method_needs_no_name(folder: Path, embedders: list[Path]) -> None:
    finder, seeker = embedders
    for catalogue in (
        catalogue_of("demo", finder),
        Catalogue([ModelSettings.of("demo"), ModelSettings.of(str(finder))], default="demo"),
        Catalogue([ModelSettings.of("demo"), ModelSettings.of(str(finder))], default="finder"),
    ):
        assert catalogue.find(None, "embed").name == "finder"
        for method in ("generate", "generate_many"):
            assert catalogue.choose(None, method)[0].name == "demo"
    assert catalogue_of("demo").find(None, "embed").name == "demo"  # which says what it is for
    with pytest.raises(
        InvalidArgument, match="^model: name one of demo, finder; this host has no default_model"
    ):
        catalogue_of("demo", finder).find(None, "rerank")
    several = Catalogue(
        [ModelSettings.of(str(name)) for name in ("demo", finder, folder, seeker)], default="demo"
    )
    assert several.find(None).name == "demo"
    with pytest.raises(
        InvalidArgument, match="name one of finder, seeker; demo, the default_model, is not for"
    ):
        several.find(None, "embed")
    several.default = "seeker"
    assert several.find(None, "embed").name == "seeker"
    with pytest.raises(
        InvalidArgument, match="name one of demo, tiny; seeker, the default_model, is not for"
    ):
        several.find(None)


async def test_model_that_becomes_another_is_for_something_else(folder: Path, embedders: list[Path]) -> None:
    catalogue = catalogue_of("demo", embedders[0])
    assert catalogue.find(None, "embed").name == "finder"
    now = ModelSettings.of(str(folder))
    catalogue.find("finder").reconfigure(replace(now, name="finder"))
    with pytest.raises(InvalidArgument):
        catalogue.find(None, "embed")


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
