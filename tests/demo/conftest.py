from pathlib import Path
from typing import Any, NamedTuple

import pytest

FOLDER = Path(__file__).parents[2] / "host" / "models" / "demo"


class Loaded(NamedTuple):
    model: Any
    tokenizer: Any


@pytest.fixture(scope="session")
def demo_folder() -> Path:
    return FOLDER


@pytest.fixture(scope="session")
def demo() -> Loaded:
    """The shipped folder as any user of mlx_lm gets it."""
    mlx_lm = pytest.importorskip("mlx_lm", reason="the demo model needs mlx-lm")
    model, tokenizer = mlx_lm.load(str(FOLDER))[:2]
    return Loaded(model, tokenizer)
