"""``format``: what an answer has to keep to, with schemas as Ollama reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from mlxbridge.guest.gateway.ollama.fields import refused, shown

_MOST_BYTES = 1 << 18
"""A schema of more has more characters than a host takes (SPEC.md §10), which says so; closing one of megabytes takes seconds."""
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions")
_ONE = ("items", "additionalItems", "additionalProperties")
_LISTS = ("items", "prefixItems")
_ALTERNATIVES = ("anyOf", "oneOf")
_OF_ONE_VALUE = (*_ALTERNATIVES, "allOf")
"""Lists of schemas for the value that the schema which has them is for, too."""


def read_format(given: Any) -> dict[str, Any] | None:
    """A body's ``format`` as the host's ``response_format``; None if it asks for nothing.

    Raises:
        Problem: it is neither ``"json"`` nor a schema.
    """
    if given in (None, ""):
        return None
    if given == "json":
        return {"type": "json_object"}
    if isinstance(given, dict):
        schema = close_objects(given) if len(orjson.dumps(given)) <= _MOST_BYTES else given
        return {"type": "json_schema", "schema": schema}
    raise refused("format", f'must be "json" or a JSON schema, not {shown(given)}')


def close_objects(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with ``additionalProperties: false`` in each that has ``properties`` and does not say.

    So llama.cpp reads them, and Ollama with it ("A word about additionalProperties" in llama.cpp's grammars/README.md). Of
    several schemas that an object has to keep to at once, as those of ``allOf``, none is closed: each would refuse the
    properties of the others.
    """
    together = _together(schema)

    def closed(part: Any) -> Any:
        if not isinstance(part, Mapping):
            return part
        own = {key: _mapped(key, value, closed) for key, value in part.items()}
        if id(part) not in together and _is_closed(part):
            own["additionalProperties"] = False
        return own

    result: dict[str, Any] = closed(schema)
    return result


def _mapped(key: str, value: Any, change: Callable[[Any], Any]) -> Any:
    """The value of a keyword, with the schemas in it changed."""
    if key in _BY_NAME and isinstance(value, Mapping):
        return {name: change(one) for name, one in value.items()}
    if key in (*_LISTS, *_OF_ONE_VALUE) and isinstance(value, list):
        return [change(one) for one in value]
    return change(value) if key in _ONE else value


def _is_closed(part: Mapping[str, Any]) -> bool:
    """Whether llama.cpp lets an object of this schema have the properties that it names, and no others."""
    names = part.get("properties")
    if not isinstance(names, Mapping) or part.get("additionalProperties") is not None:
        return False
    required = part.get("required") or ()
    return isinstance(required, list | tuple) and all(
        isinstance(name, str) and name in names for name in required
    )


def _together(root: Mapping[str, Any]) -> set[int]:
    """The schemas, by ``id``, that are for the same object as another one."""
    seen: set[tuple[int, bool]] = set()
    pending: list[tuple[Any, bool]] = [(root, False)]
    while pending:
        part, is_together = pending.pop()
        if not isinstance(part, Mapping) or (id(part), is_together) in seen:
            continue
        seen.add((id(part), is_together))
        is_together = is_together or _num_at_once(part) > 1
        if is_together:
            seen.add((id(part), True))
        pending += [(one, is_together) for one in _of_one_value(part, root)]
        pending += [(one, False) for one in _inside(part)]
    return {number for number, is_together in seen if is_together}


def _num_at_once(part: Mapping[str, Any]) -> int:
    """How many schemas of this one an object has to keep to at once."""
    all_of = part.get("allOf")
    return (
        ("properties" in part)
        + ("$ref" in part)
        + sum(key in part for key in _ALTERNATIVES)
        + (len(all_of) if isinstance(all_of, list) else 0)
    )


def _of_one_value(part: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[Any]:
    for key in _OF_ONE_VALUE:
        if isinstance(part.get(key), list):
            yield from part[key]
    if isinstance(part.get("$ref"), str):
        yield _referred(root, part["$ref"])


def _inside(part: Mapping[str, Any]) -> Iterator[Any]:
    """Schemas for something else than the value itself."""
    for key, value in part.items():
        if key in _BY_NAME and isinstance(value, Mapping):
            yield from value.values()
        elif key in _LISTS and isinstance(value, list):
            yield from value
        elif key in _ONE:
            yield value


def _referred(root: Mapping[str, Any], pointer: str) -> Any:
    """What a JSON pointer of the schema itself leads to; None if that is nothing."""
    found: Any = root
    for step in pointer.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
