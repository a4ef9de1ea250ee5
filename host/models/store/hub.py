"""The Hugging Face hub and its cache on this machine. Imports nothing heavy before it is used."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mlxbridge.errors import BridgeError, ModelLoadFailed, ModelNotFound
from mlxbridge.host.engine.checkpoint import WEIGHTS, missing_parts
from mlxbridge.host.models.store.source import ModelSource, check_complete, classify

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
        folder = check_complete(_download(source.name), f"{source.name} on Hugging Face")
    return replace(source, folder=folder)


def resolve(name_or_path: str) -> ModelSource:
    """``fetch(classify(name_or_path))``."""
    return fetch(classify(name_or_path))


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
