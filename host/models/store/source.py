"""Where a model's files are: the packaged demo, a folder, or the Hugging Face hub and its cache."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlxbridge.errors import ModelLoadFailed, ModelNotFound
from mlxbridge.host.engine.checkpoint import missing_parts

DEMO = "demo"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """A model and where it comes from.

    Attributes:
        name: what users call it: ``demo``, the folder's own name, or the hub id.
        kind: where the files come from.
        folder: where the files are; None for a hub model before ``fetch``.
    """

    name: str
    kind: Literal["demo", "folder", "hub"]
    folder: Path | None

    def to_wire(self) -> dict[str, str | None]:
        """As a worker's ``load`` takes it."""
        folder = None if self.folder is None else str(self.folder)
        return {"name": self.name, "kind": self.kind, "folder": folder}

    @classmethod
    def from_wire(cls, params: Mapping[str, Any]) -> ModelSource:
        """What ``to_wire`` gave."""
        folder = params["folder"]
        return cls(name=params["name"], kind=params["kind"], folder=None if folder is None else Path(folder))


def classify(name: str, beginning: Path | None = None) -> ModelSource:
    """Say what a name stands for, without the network and without heavy imports.

    Args:
        name: ``demo``, a path to a folder in MLX format, or a Hugging Face id (``org/name``). An existing
            folder wins over an id that is spelled the same.
        beginning: the folder at which a relative path begins; None: the working directory.

    Raises:
        ModelNotFound: it is none of the three.
        ModelLoadFailed: the folder exists but is not a model, or cannot be read; the message says what is missing.
    """
    try:
        return _classify(name, beginning or Path())
    except OSError as error:
        raise ModelLoadFailed(f"{error.filename} cannot be read: {error.strerror}") from error


def _classify(name: str, beginning: Path) -> ModelSource:
    if name == DEMO:
        return ModelSource(
            name=DEMO,
            kind="demo",
            folder=check_complete(Path(__file__).parents[1] / "demo", "the packaged demo"),
        )
    try:
        folder = beginning / Path(name).expanduser()
    except RuntimeError:  # ~USER
        raise ModelNotFound(f"no model folder at {name}: there is no such user") from None
    if name and folder.is_dir():
        folder = folder.resolve()
        return ModelSource(name=folder.name, kind="folder", folder=check_complete(folder, str(folder)))
    if _looks_like_path(name):
        raise ModelNotFound(f"no model folder at {folder}")
    if not _HUB_ID.fullmatch(name):
        raise ModelNotFound(
            f"{name!r} is no model: give demo, a folder, or a Hugging Face id such as org/name"
        )
    return ModelSource(name=name, kind="hub", folder=None)


def hub_source(name: str) -> ModelSource:
    """A model of the hub, though there may be a folder that is spelled the same.

    Raises:
        ModelNotFound: it is no Hugging Face id.
    """
    if not _HUB_ID.fullmatch(name):
        raise ModelNotFound(f"{name[:200]!r} is no Hugging Face id such as org/name")
    return ModelSource(name=name, kind="hub", folder=None)


def _looks_like_path(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~")) or name in (".", "..")


def check_complete(folder: Path, what: str) -> Path:
    """The folder, if all of a model is in it.

    Raises:
        ModelLoadFailed: something is missing; the message says what.
    """
    if not (missing := missing_parts(folder)):
        return folder
    raise ModelLoadFailed(
        f"{what} is not a complete model in MLX format; it lacks {', '.join(missing)}. "
        "Models in this format are at huggingface.co/mlx-community; mlx_lm.convert makes them from others."
    )
