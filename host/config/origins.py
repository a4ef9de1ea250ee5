"""Where each key was given: in a line of the file, by a flag, or by an environment variable."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlxbridge.host.config.toml import write_key

Key = tuple[str, ...]
"""Names of tables and of a key, from the file's top: ``("models", "chat", "max_batch")``."""


class Origins:
    """Names keys the way who gave them knows them.

    Args:
        given: flags and variables (``--max-batch``) by the keys that they set; these win over the file.
        path: the file, None if there is none.
        text: what is in it.
    """

    def __init__(
        self, given: Mapping[Key, str] | None = None, path: Path | None = None, text: str = ""
    ) -> None:
        self._given = dict(given or {})
        self._path = path
        self._text = text

    def name(self, key: Key) -> str:
        """Such as ``/etc/mlxbridge.toml:12: defaults.max_batch``, ``--max-batch`` or ``MLXBRIDGE_HOST_MAX_BATCH``."""
        if key in self._given or self._path is None:
            return self.place(key) or write_key(key)
        return f"{self.place(key)}: {write_key(key)}"

    def place(self, key: Key) -> str:
        """As ``name``, without the key where that is in the file; nothing if there is no file."""
        if key in self._given:
            return self._given[key]
        if self._path is None:
            return ""
        line = find_line(self._text, key)
        return str(self._path) if line is None else f"{self._path}:{line}"


def find_line(text: str, key: Key) -> int | None:
    """The number of the line, from 1, where a key or its table begins; of one that is not there, its table's."""
    lines: dict[Key, int] = {}
    table: Key = ()
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            header = _read(stripped)
            if header is not None:
                table = header
                lines.setdefault(table, number)
        elif "=" in stripped and not stripped.startswith("#"):
            inner = _read(f"{stripped.partition('=')[0]} = 0")
            if inner is not None:
                lines.setdefault((*table, *inner), number)
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key)


def _read(line: str) -> Key | None:
    """The key in a line of its own, None if it is none, but a part of a longer value."""
    try:
        found: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    key: list[str] = []
    while isinstance(found, dict) and len(found) == 1:
        name, found = next(iter(found.items()))
        key.append(name)
    return tuple(key)
