"""The models in the hub's cache on this machine."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from mlxbridge.errors import ModelNotFound
from mlxbridge.host.models.store.hub import cached

_PREFIX = "models--"


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedModel:
    """One of them.

    Attributes:
        hub_id: ``org/name``.
        disk_bytes: that its files take, all versions and what was begun.
        is_complete: whether it can be loaded.
    """

    hub_id: str
    disk_bytes: int
    is_complete: bool


def list_cached() -> list[CachedModel]:
    """Those that are here or were begun, by name; other things than models that mlx_lm can read, too, are in that cache."""
    folders = sorted(_cache().glob(f"{_PREFIX}*--*"))
    names = [folder.name.removeprefix(_PREFIX).replace("--", "/") for folder in folders]
    return [
        CachedModel(hub_id=name, disk_bytes=_stored_bytes(folder), is_complete=cached(name) is not None)
        for name, folder in zip(names, folders, strict=True)
    ]


def delete_cached(hub_id: str) -> int:
    """Delete a model, all versions of it and what was begun; the bytes that are free then.

    Raises:
        ModelNotFound: it is not in the cache.
        OSError: it cannot be deleted.
    """
    folder = find_cached(hub_id)
    freed = _stored_bytes(folder)
    shutil.rmtree(folder)
    shutil.rmtree(_cache() / ".locks" / folder.name, ignore_errors=True)
    return freed


def find_cached(hub_id: str) -> Path:
    """The folder of a model with all its versions, complete or not.

    Raises:
        ModelNotFound: it is not in the cache.
    """
    folder = _cache() / (_PREFIX + hub_id.replace("/", "--"))
    if not folder.is_dir():
        raise ModelNotFound(f"{hub_id} is not in this machine's cache")
    return folder


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _stored_bytes(folder: Path) -> int:
    """Of the files that are no links; snapshots link to them."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
