from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.host.embeddings.encoder import Encoder
from mlxbridge.host.embeddings.loader import load_encoder
from tests.host.embeddings.checkpoints import save_model

REFERENCES: dict[str, Any] = json.loads(Path(__file__).with_name("references.json").read_text())


@pytest.fixture(scope="session")
def models() -> dict[str, Any]:
    """What transformers makes of each family's model, by name."""
    found: dict[str, Any] = REFERENCES["models"]
    return found


@pytest.fixture(scope="session")
def classifiers() -> dict[str, Any]:
    """What transformers makes of each family's cross-encoder, by name."""
    found: dict[str, Any] = REFERENCES["classifiers"]
    return found


@pytest.fixture
def make(models: dict[str, Any], tmp_path: Path) -> Callable[..., Encoder]:
    """Builds and loads one of them; options are those of ``save_model``."""

    def make(name: str = "bert", **options: Any) -> Encoder:
        return load_encoder(save_model(tmp_path / "model", models[name], **options), "mine")

    return make
