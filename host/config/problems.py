"""What is wrong with a configuration, said in the words of who wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mlxbridge.errors import UsageError
from mlxbridge.host.config.origins import Key, Origins
from mlxbridge.host.config.overrides import as_flags
from mlxbridge.host.config.schema import HostTable
from mlxbridge.host.params import nearest

_MOST_SHOWN = 60


class Problems:
    """Collects them, to tell of all at once."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins
        self._lines: dict[str, None] = {}  # in their order, each once

    def add(self, key: Key, message: str) -> None:
        """Something is wrong with a key."""
        name = self._origins.name(key)
        self._lines[f"{name}: {as_flags(message) if name.startswith('--') else message}"] = None

    def add_all(self, error: ValidationError) -> None:
        """All that pydantic has found."""
        for found in error.errors(include_url=False):
            # Behind a number are parts of a list; "[key]" is pydantic's word for the name itself.
            inner = takewhile(lambda part: isinstance(part, str) and part != "[key]", found["loc"])
            key = tuple(map(str, inner))
            if found["type"] == "extra_forbidden":
                self.add(key, _unknown(key))
            elif found["type"] == "value_error":
                self.add(key, str(found["ctx"]["error"]))
            else:
                self.add(key, _reworded(found["type"], found["msg"], found["input"]))

    def raise_if_any(self) -> None:
        """Raise what was added, if anything was.

        Raises:
            UsageError: a line for each problem.
        """
        if self._lines:
            raise UsageError("\n".join(self._lines))


def _unknown(key: Key) -> str:
    *table, name = key
    known = _keys_of(table)
    near = nearest(name, known)
    return "there is no such key; " + (
        f"did you mean {near}?" if near else f"there are {', '.join(sorted(known))}"
    )


def _keys_of(table: Sequence[str]) -> list[str]:
    """The keys that a table may have."""
    here: Any = HostTable
    for part in table:
        if isinstance(here, type) and issubclass(here, BaseModel):
            here = here.model_fields[part].annotation
        elif get_origin(here) is dict:
            here = get_args(here)[1]
    return list(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else []


def _reworded(kind: str, message: str, value: Any) -> str:
    if kind in ("dict_type", "model_type"):
        what = "must be a table"
    else:
        what = message.partition(", unable")[0].replace("Input should", "must")
        what = what.replace("a valid ", "a ").replace("integer", "whole number")
    return f"{what}, not {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    shown = repr(value)
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}…"
