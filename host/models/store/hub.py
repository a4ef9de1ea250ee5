"""The Hugging Face hub and its cache on this machine. Imports nothing heavy before it is used."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from mlxbridge.errors import BridgeError
from mlxbridge.host.engine.checkpoint import WEIGHTS, missing_parts
from mlxbridge.host.models.store.download import Progress, download
from mlxbridge.host.models.store.refusals import explain, is_unreachable
from mlxbridge.host.models.store.source import ModelSource, check_complete, classify

log = logging.getLogger(__name__)

# What models are read from, less *.py: code from a repository is never run.
_PATTERNS = [
    "*.json",
    WEIGHTS,
    "[0-9]_*/model.safetensors",  # dense layers behind the pooling of sentence-transformers
    "tokenizer.model",
    "*.tiktoken",
    "tiktoken.model",
    "*.txt",
    "*.jsonl",
    "*.jinja",
]
_CARD = "README.md"


def _ignore(done_bytes: int, total_bytes: int) -> None:
    pass


def fetch(source: ModelSource, progress: Progress = _ignore) -> ModelSource:
    """The same source with its files on this machine; downloads a hub model that is not in the cache.

    A complete cached copy is used without asking the network. Blocks for as long as the download takes; an interrupted one
    goes on where it stopped when called again.

    Args:
        source: what ``classify`` gave.
        progress: takes the bytes that are here and those that there are, if there is something to download; at first when
            nothing has come yet. Called by several threads, one at a time.

    Raises:
        ModelNotFound: the hub has no such model, or not for this user.
        ModelLoadFailed: offline, refused, or not a model that mlx_lm can read.
    """
    if source.folder is not None:
        return source
    return replace(source, folder=cached(source.name) or pull(source.name, progress))


def resolve(name_or_path: str) -> ModelSource:
    """``fetch(classify(name_or_path))``."""
    return fetch(classify(name_or_path))


def pull(hub_id: str, progress: Progress = _ignore) -> Path:
    """The folder of the model's newest version, downloaded as far as it is not here; arguments and errors as for ``fetch``.

    If the hub cannot be reached, it is the version that is here.
    """
    try:
        folder = download(hub_id, [*_PATTERNS, _CARD], progress)
    except BridgeError:
        raise
    except Exception as exc:  # the hub's errors, its HTTP library's and the system's share no base
        if is_unreachable(exc) and (here := cached(hub_id)) is not None:
            log.warning("Hugging Face cannot be reached; %s is the version that is here", hub_id)
            return here
        raise explain(hub_id, exc) from exc
    return check_complete(folder, f"{hub_id} on Hugging Face")


def cached(hub_id: str) -> Path | None:
    """The folder of a model that is on this machine, and complete."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=_PATTERNS, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return None if missing_parts(folder) else folder
