"""What holds in the end, and who said so."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlxbridge.host.config.file import read_tables
from mlxbridge.host.config.models import choose_tables
from mlxbridge.host.config.origins import Key
from mlxbridge.host.config.overrides import DRAFT_MODELS, FLAG_KEYS, GATEWAY, MODELS, Overrides
from mlxbridge.host.config.problems import Problems
from mlxbridge.host.config.schema import ModelTable, field_of, spelled_out
from mlxbridge.host.config.toml import write_key, write_value
from mlxbridge.host.models.store import ModelSource

_MODELS: Key = ("models",)


def describe_effective(path: Path | None, overrides: Overrides) -> Iterator[str]:
    """The effective configuration as lines of TOML; behind each value where it comes from.

    Raises:
        UsageError: see ``read_tables``; or the command line names models that are none.
    """
    table, origins = read_tables(path, overrides)
    problems = Problems(origins)
    served = choose_tables(table, overrides, problems)
    problems.raise_if_any()
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
    above = {
        (*_MODELS, name, *key): (value, place)
        for name, own in served.items()
        for key, value, place in _above(own, table.models.get(name), overrides)
    }
    for key, value in file.items():
        is_not_served = key[:1] == _MODELS and not (key[1:] and key[1] in served)
        has_more = any(other[: len(key)] == key for other in above)  # then it cannot be an empty table
        if key not in FLAG_KEYS and not is_not_served and not has_more:
            yield f"{write_key(key)} = {write_value(value)}  # {origins.place(key)}"
    for key, (value, place) in above.items():
        yield f"{write_key(key)} = {write_value(value)}" + (f"  # {place}" if place else "")


def _above(
    own: ModelTable, below: ModelTable | None, overrides: Overrides
) -> Iterator[tuple[Key, Any, str | None]]:
    """What the command line says of a model, and what says it; nothing says that it is the demo."""
    if below is None and own.source is not None:
        yield ("source",), _text(own.source), overrides.names.get(MODELS)
    if own.preload and not (below and below.preload):
        yield ("preload",), True, overrides.names.get(MODELS)
    if own.draft_model is not None and own.draft_model != (below and below.draft_model):
        yield ("draft_model",), _text(own.draft_model), overrides.names.get(DRAFT_MODELS)


def _text(source: ModelSource) -> str:
    return str(source.folder) if source.kind == "folder" else source.name


def _given(table: Mapping[str, Any], outer: Key = ()) -> Iterator[tuple[Key, Any]]:
    """The keys of the file and their values; a model's own tables (``sampling``) are values."""
    for name, value in table.items():
        key = (*outer, name)
        is_table = key in (("defaults",), ("models",)) or (len(key) == 2 and outer == ("models",))
        if key == (GATEWAY,):
            value, is_table = spelled_out(value), True
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
