"""The models in the hub's cache on this machine."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from mlxbridge.errors import ModelNotFound
from mlxbridge.host.models.store.hub import cached

_PREFIX = "models--"
_MARK = ".mlxbridge.pulled"
_BROUGHT, _FOUND = "brought", "found"


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
    return [
        CachedModel(hub_id=name, disk_bytes=_stored_bytes(folder), is_complete=cached(name) is not None)
        for name, folder in ((_hub_id(folder), folder) for folder in folders)
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


def mark_pulled(hub_id: str, *, was_here: bool) -> bool:
    """Have it stand in the cache that guests pulled a model, for hosts that are started later.

    Args:
        hub_id: of a model that is here now.
        was_here: whether it was before; if guests had brought it, it is theirs all the same.

    Returns:
        Whether guests have brought it.
    """
    mark = find_cached(hub_id) / _MARK
    is_brought = not was_here or _read_mark(mark) == _BROUGHT
    with contextlib.suppress(OSError):  # what may only be read can be used all the same
        mark.write_text(_BROUGHT if is_brought else _FOUND)
    return is_brought


def list_pulled() -> dict[str, bool]:
    """The models that guests have pulled and that can be loaded, and whether guests have brought them."""
    marks = sorted(_cache().glob(f"{_PREFIX}*--*/{_MARK}"))
    found = {_hub_id(mark.parent): _read_mark(mark) == _BROUGHT for mark in marks}
    return {name: is_brought for name, is_brought in found.items() if cached(name) is not None}


def find_cached(hub_id: str) -> Path:
    """The folder of a model with all its versions, complete or not.

    Raises:
        ModelNotFound: it is not in the cache.
    """
    folder = _cache() / (_PREFIX + hub_id.replace("/", "--"))
    if not folder.is_dir():
        raise ModelNotFound(f"{hub_id} is not in this machine's cache")
    return folder


def _hub_id(folder: Path) -> str:
    return folder.name.removeprefix(_PREFIX).replace("--", "/")


def _read_mark(mark: Path) -> str:
    try:
        return mark.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _stored_bytes(folder: Path) -> int:
    """Of the files that are no links; snapshots link to them."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
