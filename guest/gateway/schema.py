"""JSON Schemas of what is taken and told, put together from few words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
NULL: Schema = {"type": "null"}
ANY: Schema = {}
MODEL: Schema = {"type": "string", "description": "a name or alias of the host's; its default if left out"}


def number(least: float | None = None, most: float | None = None) -> Schema:
    """A number, both bounds included."""
    return _bounded("number", least, most)


def whole(least: int | None = None, most: int | None = None) -> Schema:
    """A whole number, both bounds included."""
    return _bounded("integer", least, most)


def choice(*values: Any) -> Schema:
    """One of some values."""
    return {"enum": list(values)}


def list_of(item: Schema, least: int = 0, most: int | None = None) -> Schema:
    """A list of so many items."""
    bounds = {"minItems": least, **({} if most is None else {"maxItems": most})}
    return {"type": "array", "items": item, **bounds}


def any_of(*schemas: Schema) -> Schema:
    """What fits one of them, or several."""
    return {"anyOf": list(schemas)}


def body(fields: Mapping[str, Schema], required: Sequence[str] = ()) -> Schema:
    """An object of a request: what is required has to be there, all else may be null, and there is nothing besides."""
    properties = {name: one if name in required else _or_null(one) for name, one in fields.items()}
    return {**told(properties, required), "additionalProperties": False}


def typed(
    kind: str, members: Mapping[str, Schema] = MappingProxyType({}), required: Sequence[str] = ()
) -> Schema:
    """An object of a request whose ``type`` says what else it has; otherwise as ``body``."""
    return body({"type": choice(kind), **members}, ["type", *required])


def told(fields: Mapping[str, Schema], required: Sequence[str] | None = None) -> Schema:
    """An object of an answer, which has all of its fields if not said otherwise, and may have more in later versions."""
    names = list(fields if required is None else required)
    return {"type": "object", "properties": dict(fields), **({"required": names} if names else {})}


def _or_null(schema: Schema) -> Schema:
    if not schema:
        return schema
    given = schema.get("anyOf")
    return {"anyOf": [*(given or [schema]), NULL]}


def _bounded(kind: str, least: float | None, most: float | None) -> Schema:
    bounds = {"minimum": least, "maximum": most}
    return {"type": kind, **{name: bound for name, bound in bounds.items() if bound is not None}}
