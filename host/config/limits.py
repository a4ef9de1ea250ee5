"""How much a model takes on, from the keys that say so."""

from __future__ import annotations

import re

from mlxbridge.errors import UsageError
from mlxbridge.host.config.places import prefix_folder
from mlxbridge.host.config.schema import ForModels
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.engine.prefixes.part_folder import check_private

_KEYS = {
    "kv_bytes": "kv_memory",
    "prefix_cache_bytes": "prefix_cache",
    "prefix_disk_bytes": "prefix_disk",
}
"""Keys by the fields of ``EngineLimits`` that have other names."""
_FIELD = re.compile(r"\b\w+_\w+\b")


def make_limits(table: ForModels) -> EngineLimits:
    """The limits that a table gives.

    Raises:
        UsageError: a key does not go with another, or what is to be on disk cannot be; ``details["field"]`` is the key.
    """
    disk_bytes = table.prefix_disk or 0
    folder = table.prefix_disk_folder
    if folder is not None and not disk_bytes:
        _refuse("prefix_disk_folder", "nothing is kept there without prefix_disk")
    folder = folder or prefix_folder()
    if disk_bytes:
        try:
            if folder.exists():
                check_private(folder)
        except OSError as error:
            _refuse("prefix_disk_folder", f"{folder}: {error.strerror}")
    try:
        return EngineLimits(
            max_batch=table.max_batch,
            max_waiting=table.max_waiting,
            kv_bytes=table.kv_memory,
            prefix_cache_bytes=table.prefix_cache,
            kv_bits=table.kv_bits,
            kv_group_size=table.kv_group_size,
            kv_window=table.kv_window,
            kv_sinks=table.kv_sinks,
            prefix_disk_bytes=disk_bytes,
            prefix_disk_folder=str(folder) if disk_bytes else None,
        )
    except UsageError as error:
        field = str(error.details.get("field", ""))
        message = error.message.removeprefix(f"{field} ")
        message = _FIELD.sub(lambda name: _KEYS.get(name[0], name[0]), message)
        raise UsageError(message, details={"field": _KEYS.get(field, field)}) from error


def _refuse(key: str, message: str) -> None:
    raise UsageError(message, details={"field": key})
