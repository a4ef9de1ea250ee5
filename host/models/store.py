"""Where a model's files are: the packaged demo, a folder, or the Hugging Face hub and its cache.

Imports nothing heavy before a download is needed, because the front process uses ``classify``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mlxbridge.errors import BridgeError, ModelLoadFailed, ModelNotFound
from mlxbridge.host.engine.checkpoint import WEIGHTS, missing_parts

DEMO = "demo"

# What mlx_lm reads, less *.py: code from a repository is never run.
_PATTERNS = [
    "*.json",
    WEIGHTS,
    "tokenizer.model",
    "*.tiktoken",
    "tiktoken.model",
    "*.txt",
    "*.jsonl",
    "*.jinja",
]
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


def classify(name: str) -> ModelSource:
    """Say what a name stands for, without the network and without heavy imports.

    Args:
        name: ``demo``, a path to a folder in MLX format, or a Hugging Face id (``org/name``). An existing
            folder wins over an id that is spelled the same.

    Raises:
        ModelNotFound: it is none of the three.
        ModelLoadFailed: the folder exists but is not a model; the message says what is missing.
    """
    if name == DEMO:
        return ModelSource(
            name=DEMO, kind="demo", folder=_checked(Path(__file__).with_name("demo"), "the packaged demo")
        )
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        folder = folder.resolve()
        return ModelSource(name=folder.name, kind="folder", folder=_checked(folder, str(folder)))
    if _looks_like_path(name):
        raise ModelNotFound(f"no model folder at {folder}")
    if not _HUB_ID.fullmatch(name):
        raise ModelNotFound(
            f"{name!r} is no model: give demo, a folder, or a Hugging Face id such as org/name"
        )
    return ModelSource(name=name, kind="hub", folder=None)


def fetch(source: ModelSource, before_download: Callable[[], object] = lambda: None) -> ModelSource:
    """The same source with its files on this machine; downloads a hub model that is not in the cache.

    A complete cached copy is used without asking the network. Progress goes to stderr. Blocks for as long as
    the download takes; an interrupted one goes on where it stopped when called again.

    Args:
        source: what ``classify`` gave.
        before_download: called if there is something to download, before that.

    Raises:
        ModelNotFound: the hub has no such model, or not for this user.
        ModelLoadFailed: offline, refused, or not a model that mlx_lm can read.
    """
    if source.folder is not None:
        return source
    folder = _cached(source.name)
    if folder is None:
        before_download()
        folder = _checked(_download(source.name), f"{source.name} on Hugging Face")
    return replace(source, folder=folder)


def resolve(name_or_path: str) -> ModelSource:
    """``fetch(classify(name_or_path))``."""
    return fetch(classify(name_or_path))


def _looks_like_path(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~")) or name in (".", "..")


def _checked(folder: Path, what: str) -> Path:
    if not (missing := missing_parts(folder)):
        return folder
    raise ModelLoadFailed(
        f"{what} is not a complete model in MLX format; it lacks {', '.join(missing)}. "
        "Models in this format are at huggingface.co/mlx-community; mlx_lm.convert makes them from others."
    )


def _cached(hub_id: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=_PATTERNS, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return None if missing_parts(folder) else folder


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=_PATTERNS))
    except Exception as exc:  # the hub's errors, its HTTP library's and the system's share no base
        raise _explain(hub_id, exc) from exc


def _explain(hub_id: str, exc: Exception) -> BridgeError:
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    if isinstance(exc, GatedRepoError):
        return ModelLoadFailed(
            f"{hub_id} is gated: accept its terms at https://huggingface.co/{hub_id} "
            "and set HF_TOKEN on the host"
        )
    if isinstance(exc, HFValidationError):
        return ModelNotFound(f"{hub_id!r} is not a Hugging Face id: {exc}")
    if isinstance(exc, RepositoryNotFoundError):
        return ModelNotFound(
            f"Hugging Face has no model {hub_id} (if it is private, set HF_TOKEN on the host)"
        )
    if isinstance(exc, LocalEntryNotFoundError | ConnectionError):
        cause = f" ({exc.__cause__})" if exc.__cause__ else ""
        why = "HF_HUB_OFFLINE is set" if _is_set_offline() else f"Hugging Face cannot be reached{cause}"
        return ModelLoadFailed(
            f"{hub_id} is not in this machine's cache and {why}: go online once, "
            "or copy the model here and give its folder"
        )
    return ModelLoadFailed(
        f"downloading {hub_id} failed: {type(exc).__name__}: {exc}. Try again: it goes on where it stopped."
    )


def _is_set_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
