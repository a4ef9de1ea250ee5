from __future__ import annotations

from pathlib import Path

import pytest

from mlxbridge.errors import InvalidArgument, ModelNotFound, UsageError
from mlxbridge.host.models.catalogue import Catalogue
from tests.host.engine.tiny import byte_level_tokenizer, save_model, save_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_model(path)
    save_tokenizer(byte_level_tokenizer(), path)
    return path


def test_only_model_needs_no_name(folder: Path) -> None:
    assert Catalogue([str(folder)]).find(None).name == "tiny"


def test_one_of_several_must_be_named(folder: Path) -> None:
    catalogue = Catalogue([str(folder), "demo"])
    assert catalogue.find("demo").name == "demo"
    with pytest.raises(InvalidArgument, match="tiny, demo"):
        catalogue.find(None)


def test_unknown_model_gets_the_nearest_name(folder: Path) -> None:
    with pytest.raises(ModelNotFound, match="did you mean 'tiny'"):
        Catalogue([str(folder)]).find("tinny")
    with pytest.raises(ModelNotFound, match="it serves tiny"):
        Catalogue([str(folder)]).find("gpt")


def test_two_models_of_one_name_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="already"):
        Catalogue([str(folder), str(folder)])


def test_model_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ModelNotFound):
        Catalogue(["/no/such/folder"])
