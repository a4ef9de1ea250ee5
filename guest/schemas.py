"""Python types as JSON schemas: for tools' parameters, and for what answers have to keep to."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from enum import Enum
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)
from uuid import UUID

from mlxbridge.guest.requests import shown, wrong

Schema = dict[str, Any]

_PLAIN: Mapping[Any, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    NoneType: "null",
}
FORMATS: Mapping[Any, str] = {datetime: "date-time", date: "date", time: "time", UUID: "uuid"}
"""Types that are texts of a format in JSON."""
SEQUENCES = (list, tuple, Sequence)
MAPPINGS = (dict, Mapping)


def schema_of(kind: Any, field: str) -> Schema:
    """The schema of a type.

    ``str``, ``int``, ``float``, ``bool``, ``None``, ``Any``; ``date``, ``time``, ``datetime``, ``UUID``; ``list``, ``tuple[T, ...]``, ``dict[str, T]``; ``Literal``,
    unions, ``Optional``; enums, dataclasses, TypedDicts; pydantic's models and what its ``Field`` says. A text in
    ``Annotated`` is a description. What has a default is not required, and an object has no more than is named.

    Args:
        kind: the type.
        field: what was given it, for the error.

    Raises:
        UsageError: JSON has nothing like it; the message says where.
    """
    return _Builder(field).build(kind)


def parameters_schema(
    kinds: Mapping[str, Any], required: Sequence[str], said: Mapping[str, str], field: str
) -> Schema:
    """The schema of an object with a member of each of these types.

    Args:
        kinds: by name.
        required: those that it cannot be without.
        said: descriptions, by name.
        field: for errors, which are those of ``schema_of``.
    """
    return _Builder(field).build_object(kinds, required, said)


def hints_of(thing: Any, field: str) -> dict[str, Any]:
    """The types of a function's parameters or of a class's fields, by name.

    Raises:
        UsageError: one is a text that names nothing.
    """
    try:
        return get_type_hints(thing, include_extras=True)
    except Exception as error:  # such a text may be any expression
        name = getattr(thing, "__name__", shown(thing))
        raise wrong(field, f"the type hints of {name} cannot be read ({error})") from error


def is_pydantic(kind: Any) -> bool:
    """Whether pydantic says what it is: a model of its, or a type with its ``Field``. Loads nothing."""
    if "pydantic" not in sys.modules:
        return False
    if get_origin(kind) is Annotated:
        return any(type(note).__module__.startswith("pydantic") for note in kind.__metadata__)
    return (
        isinstance(kind, type) and hasattr(kind, "__pydantic_core_schema__") and hasattr(kind, "model_fields")
    )


def required_fields(kind: Any, hints: Mapping[str, Any]) -> list[str]:
    """Those that a dataclass or a TypedDict cannot be made without."""
    if is_typeddict(kind):  # what it says itself it has not read where annotations are texts
        marked = {name: get_origin(hint) for name, hint in hints.items()}
        own = kind.__required_keys__
        return [
            name
            for name, mark in marked.items()
            if mark is not NotRequired and (name in own or mark is Required)
        ]
    return [one.name for one in fields_of(kind) if is_required(one)]


def fields_of(kind: Any) -> list[dataclasses.Field[Any]]:
    """Those of a dataclass that it is made with."""
    return [one for one in dataclasses.fields(kind) if one.init]


def is_required(one: dataclasses.Field[Any]) -> bool:
    """Whether a dataclass's field has no default."""
    return one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING


def unmarked(hint: Any) -> Any:
    """A TypedDict's hint without Required and NotRequired."""
    return get_args(hint)[0] if get_origin(hint) in (Required, NotRequired) else hint


class _Builder:
    """One schema, with the classes in it under ``$defs``, so that they may refer to each other and to themselves."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._names: dict[Any, str] = {}
        self._defs: dict[str, Schema] = {}
        self._num_uses: dict[str, int] = {}

    def build(self, kind: Any) -> Schema:
        schema = self._schema(kind, "")
        name = self._names.get(kind) if isinstance(kind, type) else None
        if name is not None and self._num_uses[name] == 1:  # nothing but the whole refers to it
            schema = self._defs.pop(name)
        return {**schema, "$defs": self._defs} if self._defs else schema

    def build_object(
        self, kinds: Mapping[str, Any], required: Sequence[str], said: Mapping[str, str]
    ) -> Schema:
        properties = {}
        for name, kind in kinds.items():
            schema = self._schema(kind, f".{name}")
            properties[name] = {**schema, "description": said[name]} if name in said else schema
        schema = _object_schema(properties, required)
        return {**schema, "$defs": self._defs} if self._defs else schema

    def _schema(self, kind: Any, path: str) -> Schema:
        if is_pydantic(kind):
            return self._pydantic(kind)
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Annotated:  # which need not be hashable
            return self._annotated(kind, path)
        if kind is Any or kind is object:
            return {}
        if kind is None or (isinstance(kind, type) and kind in _PLAIN):
            return {"type": _PLAIN.get(kind, "null")}
        if isinstance(kind, type) and kind in FORMATS:
            return {"type": "string", "format": FORMATS[kind]}
        if origin is Literal:
            return self._choice(arguments, path)
        if origin in (Union, UnionType):
            return {"anyOf": [self._schema(one, path) for one in arguments]}
        if (origin or kind) in SEQUENCES:
            return self._array(kind, arguments, path)
        if (origin or kind) in MAPPINGS:
            return self._map(arguments, path)
        if isinstance(kind, type) and issubclass(kind, Enum):
            return self._choice([member.value for member in kind], path)
        if is_typeddict(kind) or (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            return self._named(kind, lambda: self._object(kind, path))
        raise self._refused(path, f"{_name(kind)} is nothing that JSON has")

    def _annotated(self, kind: Any, path: str) -> Schema:
        notes = kind.__metadata__
        for note in notes:
            if not isinstance(note, str):
                raise self._refused(
                    path, f"{shown(note)} in Annotated is not kept to; a text there is a description"
                )
        return {**self._schema(kind.__origin__, path), "description": " ".join(notes)}

    def _choice(self, values: Sequence[Any], path: str) -> Schema:
        for value in values:
            if not isinstance(value, str | int | float | bool | None):
                raise self._refused(path, f"{shown(value)} is no value that JSON has")
        return {"enum": list(values)}

    def _array(self, kind: Any, arguments: Sequence[Any], path: str) -> Schema:
        if get_origin(kind) is tuple and arguments[-1:] != (Ellipsis,):
            items = [self._schema(one, f"{path}[{place}]") for place, one in enumerate(arguments)]
            return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
        return (
            {"type": "array", "items": self._schema(arguments[0], f"{path}[]")}
            if arguments
            else {"type": "array"}
        )

    def _map(self, arguments: Sequence[Any], path: str) -> Schema:
        if not arguments:
            return {"type": "object"}
        if arguments[0] is not str:
            raise self._refused(path, f"keys of JSON are texts, not {_name(arguments[0])}")
        return {"type": "object", "additionalProperties": self._schema(arguments[1], f"{path}.*")}

    def _object(self, kind: Any, path: str) -> Schema:
        hints = hints_of(kind, self._field)
        if not is_typeddict(kind):
            hints = {one.name: hints[one.name] for one in fields_of(kind)}
        properties = {name: self._schema(unmarked(hint), f"{path}.{name}") for name, hint in hints.items()}
        return _object_schema(properties, required_fields(kind, hints))

    def _named(self, kind: Any, make: Callable[[], Schema]) -> Schema:
        name = self._names.get(kind)
        if name is None:
            name = self._names[kind] = self._free_name(kind.__name__)
            self._defs[name] = {}
            self._num_uses[name] = 0
            self._defs[name] = make()
        self._num_uses[name] += 1
        return {"$ref": f"#/$defs/{name}"}

    def _free_name(self, name: str) -> str:
        number, free = 1, name
        while free in self._defs:
            number += 1
            free = f"{name}{number}"
        return free

    def _pydantic(self, kind: Any) -> Schema:
        from pydantic import TypeAdapter

        schema: Schema = TypeAdapter(kind).json_schema()
        _close(schema)
        for name, one in schema.pop("$defs", {}).items():
            if self._defs.setdefault(name, one) != one:
                raise self._refused("", f"two types are called {name}; rename one of them")
        return schema

    def _refused(self, path: str, why: str) -> Exception:
        return wrong(f"{self._field}{path}", f"cannot be said as a JSON schema: {why}")


def _object_schema(properties: Mapping[str, Schema], required: Sequence[str]) -> Schema:
    """An object with these properties, and no others."""
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "properties": dict(properties), **needed, "additionalProperties": False}


def _close(schema: Any) -> None:
    """Let pydantic's objects have no more than is named, where the model does not say that it takes more."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            _close(value)
    elif isinstance(schema, list):
        for value in schema:
            _close(value)


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else shown(kind)
