"""What the engine's tests share: one tiny model, loaded once, and what engines find out about each model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.engine.loader import LoadedModel, load
from tests.host.engine.probes import models_are_probed_once  # noqa: F401
from tests.host.engine.tiny import Answers, byte_level_tokenizer, save_model, save_tokenizer


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(folder)
    save_tokenizer(byte_level_tokenizer(), folder)
    return folder


@pytest.fixture(scope="session")
def loaded(model_folder: Path) -> LoadedModel:
    return load(model_folder, "tiny")


@pytest.fixture
def make_engine(loaded: LoadedModel) -> Callable[..., BatchEngine]:
    return lambda model=loaded, **options: BatchEngine(model, EngineLimits(**options))


@pytest.fixture
def answers(make_engine: Callable[..., BatchEngine]) -> Answers:
    return Answers(make_engine())
