from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.host.config.config import Config, read_config
from mlxbridge.host.config.origins import Key
from mlxbridge.host.config.overrides import FLAG_KEYS, Overrides, flag, option_name

Read = Callable[..., Config]


def flags(**values: Any) -> Overrides:
    """As if these options were given."""
    keys: dict[str, Key] = {option_name(key): key for key in FLAG_KEYS}
    models, drafts = values.pop("model", ()), values.pop("draft_model", ())
    return Overrides(
        values={keys[name]: value for name, value in values.items()},
        names={
            **{keys[name]: flag(name) for name in values},
            ("model",): "--model",
            ("draft_model",): "--draft-model",
        },
        models=models,
        draft_models=drafts,
    )


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read a file with this text, and these options above it."""

    def read(text: str = "", **options: Any) -> Config:
        path = tmp_path / "config.toml"
        path.write_text(text)
        return read_config(path, flags(**options))

    return read


@pytest.fixture
def problems(read: Read, tmp_path: Path) -> Callable[..., list[str]]:
    """What is said of a file and of options that are wrong, a line each; the file's folder left out."""

    def problems(text: str = "", **options: Any) -> list[str]:
        with pytest.raises(UsageError) as caught:
            read(text, **options)
        return caught.value.message.replace(f"{tmp_path}/", "").splitlines()

    return problems
