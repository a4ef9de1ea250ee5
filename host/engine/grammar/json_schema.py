"""Which parts of JSON Schema an answer can be held to; what cannot is refused by its path, never dropped.

llguidance leaves out what it does not know to be a keyword, as the specification has it. Who writes a schema for a
model means every word of it, so here each key of each schema is known, or an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from math import isfinite
from typing import Any

from mlxbridge.host.engine.refusal import invalid, shown, unsupported

MAX_DEPTH = 64
# Each is compared with every other one, a millisecond a pair.
MAX_PATTERN_PROPERTIES = 16
# Beyond these, whoever reads numbers as float64 (llguidance does) takes one integer for another.
MAX_INTEGER = 2**53
_MAX_SHOWN_PATH = 120
# A slip of the finger; other keywords of JSON Schema are less like those that are supported.
_ALIKE = 0.8

# What holds schemas, and how.
_ONE = frozenset({"items", "additionalItems", "additionalProperties"})
_LIST = frozenset({"items", "prefixItems", "anyOf", "oneOf", "allOf"})
_BY_NAME = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_HELD_TO = frozenset(
    [
        "type",
        "enum",
        "const",
        "$ref",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minItems",
        "maxItems",
        "required",
        "minProperties",
        "maxProperties",
    ]
)
# They say nothing that an answer could fail.
_ANNOTATIONS = frozenset(
    [
        "$schema",
        "$id",
        "id",
        "$anchor",
        "$comment",
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
    ]
)
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_MAIN = frozenset({"$ref", "$defs", "properties", "items", "anyOf", "oneOf", "allOf", "enum", "const"})
KEYWORDS = _ONE | _LIST | _BY_NAME | _HELD_TO | _ANNOTATIONS


def check_schema(field: str, schema: Any) -> None:
    """Check that a schema is JSON, and has no keyword that answers cannot be held to.

    Args:
        field: its name, with which all paths begin.
        schema: a map.

    Raises:
        InvalidArgument, Unsupported: ``details["field"]`` is the path of what is wrong.
    """
    if not isinstance(schema, Mapping):
        raise invalid(field, f"must be a map, a JSON schema, not {shown(schema)}")
    _check_json(field, schema)
    num_patterns = 0
    for path, part in subschemas(field, schema):
        for key in part:
            if key not in KEYWORDS:
                near = get_close_matches(key[:100], KEYWORDS, n=1, cutoff=_ALIKE)
                hint = f"; did you mean {near[0]!r}?" if near else ", and would not be kept to"
                raise unsupported(_inside(path, key), f"is not supported{hint}")
        num_patterns += len(part.get("patternProperties") or ())
    if num_patterns > MAX_PATTERN_PROPERTIES:
        raise unsupported(
            f"{field}.patternProperties",
            f"has {num_patterns} patterns in all; at most {MAX_PATTERN_PROPERTIES} are supported",
        )


def is_schema(value: Mapping[str, Any]) -> bool:
    """Whether a map that is to have a schema is one itself, as pydantic's ``model_json_schema()`` gives it."""
    return value.get("type") in _TYPES if "type" in value else not _MAIN.isdisjoint(value)


def subschemas(path: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema in a schema that is a map, with its path; each before those inside it."""
    pending: list[tuple[str, Any]] = [(path, schema)]
    while pending:
        here, part = pending.pop()
        if not isinstance(part, Mapping):
            continue  # true or false; or a mistake, which compiling finds
        yield here, part
        for key, value in part.items():
            inner = _inside(here, key)
            if key in _BY_NAME and isinstance(value, Mapping):
                pending += [(_inside(inner, name), one) for name, one in value.items()]
            elif key in _LIST and isinstance(value, list | tuple):
                pending += [(f"{inner}[{index}]", one) for index, one in enumerate(value)]
            elif key in _ONE:
                pending.append((inner, value))


def _check_json(field: str, schema: Any) -> None:
    pending: list[tuple[str, Any, int]] = [(field, schema, 1)]
    while pending:
        path, value, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise invalid(path, f"lies deeper than {MAX_DEPTH} levels")
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise invalid(path, f"has the key {shown(key)}; JSON has texts only")
            pending += [(_inside(path, key), one, depth + 1) for key, one in value.items()]
        elif isinstance(value, list | tuple):
            pending += [(f"{path}[{index}]", one, depth + 1) for index, one in enumerate(value)]
        else:
            _check_plain(path, value)


def _check_plain(path: str, value: Any) -> None:
    if value is None or isinstance(value, str | bool):
        return
    if not isinstance(value, int | float) or (isinstance(value, float) and not isfinite(value)):
        raise invalid(path, f"must be JSON, not {shown(value)}")
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise unsupported(path, "is an integer beyond ±2^53, which numbers of JSON do not hold exactly")


def _inside(path: str, key: str) -> str:
    part = f".{key}" if key.replace("$", "_").isidentifier() else f"[{json.dumps(key, ensure_ascii=False)}]"
    longer = path + part
    if len(longer) <= _MAX_SHOWN_PATH:
        return longer
    half = _MAX_SHOWN_PATH // 2
    return f"{longer[:half]}…{longer[-half:]}"
