"""The file and what overrides it, read and checked key by key."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError

from mlxbridge.errors import UsageError
from mlxbridge.host.config.origins import Origins
from mlxbridge.host.config.overrides import Overrides
from mlxbridge.host.config.problems import Problems
from mlxbridge.host.config.schema import HostTable


def read_tables(path: Path | None, overrides: Overrides) -> tuple[HostTable, Origins]:
    """What is configured, the overrides in their places.

    Raises:
        UsageError: the file cannot be read, or keys or values are wrong: all that are, a line for each.
    """
    text = "" if path is None else _read_text(path)
    origins = Origins(overrides.names, path, text)
    problems = Problems(origins)
    table = _validate(text, path, problems)
    above = _check(overrides.table(), problems)
    problems.raise_if_any()
    return _merge(table, above), origins


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def _validate(text: str, path: Path | None, problems: Problems) -> HostTable:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: this is no TOML: {error}") from error
    folder = None if path is None else path.absolute().parent
    try:
        return HostTable.model_validate(data, strict=True, context={"folder": folder})
    except ValidationError as error:
        problems.add_all(error)
        return HostTable()


def _check(values: dict[str, object], problems: Problems) -> HostTable:
    try:
        return HostTable.model_validate(values)
    except ValidationError as error:
        problems.add_all(error)
        return HostTable()


def _merge(below: HostTable, above: HostTable) -> HostTable:
    inner = {"defaults": below.defaults.under(above.defaults), "gateway": below.gateway.under(above.gateway)}
    return below.under(above).model_copy(update=inner)
