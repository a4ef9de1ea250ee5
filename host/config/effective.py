"""What holds in the end, and who said so."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlxbridge.host.config.file import read_tables
from mlxbridge.host.config.origins import Key
from mlxbridge.host.config.overrides import FLAG_KEYS, Overrides
from mlxbridge.host.config.schema import field_of
from mlxbridge.host.config.toml import write_key, write_value


def describe_effective(path: Path | None, overrides: Overrides) -> Iterator[str]:
    """The effective configuration as lines of TOML; behind each value where it comes from.

    Raises:
        UsageError: see ``read_tables``.
    """
    _, origins = read_tables(path, overrides)
    file = {} if path is None else dict(_given(tomllib.loads(path.read_text(encoding="utf-8"))))
    given = {**file, **overrides.values}
    for key in FLAG_KEYS:
        field = field_of(key)
        extra: Any = field.json_schema_extra
        if key in given:
            yield f"{write_key(key)} = {write_value(_number(given[key]))}  # {origins.place(key)}"
        elif extra["unset"]:
            yield f"# {write_key(key)}: {extra['unset']}"
        else:
            yield f"{write_key(key)} = {write_value(field.default)}"
    for key, value in file.items():
        if key not in FLAG_KEYS:
            yield f"{write_key(key)} = {write_value(value)}  # {origins.place(key)}"


def _given(table: Mapping[str, Any], outer: Key = ()) -> Iterator[tuple[Key, Any]]:
    """The keys of the file and their values; a model's own tables (``sampling``) are values."""
    for name, value in table.items():
        key = (*outer, name)
        is_table = key in (("defaults",), ("models",)) or (len(key) == 2 and outer == ("models",))
        if is_table and (value or key == ("defaults",)):
            yield from _given(value, key)
        else:
            yield key, value


def _number(value: Any) -> Any:
    """What a flag or a variable says as a text is a number if it looks like one."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
