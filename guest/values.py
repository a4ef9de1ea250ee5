"""What came as JSON, as the Python types that ``schemas`` describes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import date, time
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, is_typeddict
from uuid import UUID

from mlxbridge.guest.requests import shown
from mlxbridge.guest.schemas import (
    FORMATS,
    MAPPINGS,
    SEQUENCES,
    fields_of,
    hints_of,
    is_pydantic,
    required_fields,
    unmarked,
)

_NAMES = {str: "a text", bool: "true or false", int: "a whole number", float: "a number", NoneType: "null"}


def read_value(kind: Any, value: Any, path: str) -> Any:
    """A decoded JSON value as an object of a type.

    Args:
        kind: a type that ``schema_of`` takes.
        value: of the types that ``json.loads`` gives.
        path: where it stands, for the error.

    Raises:
        ValueError: it is none; the message begins with its path.
    """
    if is_pydantic(kind):
        return _read_pydantic(kind, value, path)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return read_value(kind.__origin__, value, path)
    if kind is Any or kind is object:
        return value
    if kind is None or kind in _NAMES:
        return _read_plain(kind, value, path)
    if isinstance(kind, type) and kind in FORMATS:
        return _read_format(kind, value, path)
    if origin is Literal:
        return _read_choice({(type(one), one): one for one in arguments}, value, path)
    if origin in (Union, UnionType):
        return _read_union(arguments, value, path)
    if (origin or kind) in SEQUENCES:
        return _read_array(kind, arguments, value, path)
    if (origin or kind) in MAPPINGS:
        _check(value, dict, "an object", path)
        inner = arguments[1] if arguments else Any
        return {name: read_value(inner, one, f"{path}.{name}") for name, one in value.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _read_choice({(type(one.value), one.value): one for one in kind}, value, path)
    return _read_object(kind, value, path)


def _read_plain(kind: Any, value: Any, path: str) -> Any:
    wanted = NoneType if kind is None else kind
    if type(value) is int and wanted is float:
        return float(value)
    if type(value) is float and wanted is int and value.is_integer():  # 3.0 is an integer of JSON's
        return int(value)
    if type(value) is not wanted:
        raise ValueError(f"{path}: must be {_NAMES[wanted]}, not {shown(value)}")
    return value


def _read_format(kind: Any, value: Any, path: str) -> Any:
    """A date, a time or the like, which is a text."""
    _check(value, str, "a text", path)
    try:
        return UUID(value) if kind is UUID else kind.fromisoformat(value)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_choice(members: Mapping[tuple[type, Any], Any], value: Any, path: str) -> Any:
    member = members.get((type(value), value)) if isinstance(value, str | int | float | None) else None
    if member is None and (type(value), value) not in [*members]:
        known = ", ".join(repr(one) for _, one in members)
        raise ValueError(f"{path}: must be one of {known}, not {shown(value)}")
    return member


def _read_union(kinds: tuple[Any, ...], value: Any, path: str) -> Any:
    """As the first of the types that it is."""
    failures = []
    for kind in sorted(kinds, key=lambda kind: kind is not type(value)):  # 1 is an int before it is a float
        try:
            return read_value(kind, value, path)
        except ValueError as error:
            failures.append(str(error))
    raise ValueError("; or ".join(dict.fromkeys(failures)))


def _read_array(kind: Any, arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    _check(value, list, "a list", path)
    if get_origin(kind) is tuple and arguments[-1:] != (Ellipsis,):
        if len(value) != len(arguments):
            raise ValueError(f"{path}: must have {len(arguments)} members, not {len(value)}")
        kinds = arguments
    else:
        kinds = (arguments[0] if arguments else Any,) * len(value)
    members = [
        read_value(one, member, f"{path}[{place}]")
        for place, (one, member) in enumerate(zip(kinds, value, strict=True))
    ]
    return tuple(members) if (get_origin(kind) or kind) is tuple else members


def _read_object(kind: Any, value: Any, path: str) -> Any:
    _check(value, dict, "an object", path)
    hints = {name: unmarked(hint) for name, hint in hints_of(kind, path).items()}
    known = [*hints] if is_typeddict(kind) else [one.name for one in fields_of(kind)]
    given = read_members({name: hints[name] for name in known}, value, path)
    missing = [name for name in required_fields(kind, hints_of(kind, path)) if name not in given]
    if missing:
        raise ValueError(f"{path}: lacks {', '.join(missing)}")
    if is_typeddict(kind):
        return given
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:  # a dataclass that checks itself
        raise ValueError(f"{path}: {error}") from error


def read_members(kinds: Mapping[str, Any], values: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Each member of an object by its own type; errors as of ``read_value``, also for one that there is no type for."""
    for name in values:
        if name not in kinds:
            raise ValueError(f"{path}: there is no {shown(name)}; there are {', '.join(kinds) or 'none'}")
    return {name: read_value(kinds[name], value, f"{path}.{name}") for name, value in values.items()}


def _read_pydantic(kind: Any, value: Any, path: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{path}: {error}") from error


def _check(value: Any, wanted: type, name: str, path: str) -> None:
    if not isinstance(value, wanted):
        raise ValueError(f"{path}: must be {name}, not {shown(value)}")


def plain_value(value: Any) -> Any:
    """For ``json.dumps(default=…)``: what it does not know, as what it does; texts at the worst."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, date | time):
        return value.isoformat()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)
