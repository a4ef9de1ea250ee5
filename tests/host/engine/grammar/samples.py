"""Random schemas and patterns whose answers are short, and whether a text keeps to them."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

import jsonschema

# Each with what Python says of it in the same words.
PATTERNS = (
    r"[0-9]{4}-[01][0-9]-[0-3][0-9]",
    r"(red|green|blue)( (light|dark)){0,2}",
    r"[a-z]{1,8}@[a-z]{1,8}\.(com|org)",
    r"(?:[A-Z][a-z]{0,5} ?){1,4}",
    r"#[0-9a-f]{6}",
    r"-?[1-9][0-9]{0,3}(\.[0-9]{1,2})?",
    r"(foo|bar|é|日本){2,3}!",
    r'"[^"\\]{0,9}"',
)
_NAMES = ("a", "name", "küche", 'quo"te', "with space", "日本", "x_1", "id")


def random_schema(chance: Random, depth: int = 0) -> dict[str, Any]:
    """A schema of answers that are some dozens of tokens at most."""
    kinds = ["text", "pattern", "integer", "number", "boolean", "null", "enum", "const"]
    if depth < 2:
        kinds += ["object", "object", "array", "any", "definition"]
    return _MAKERS[chance.choice(kinds)](chance, depth)


def _text(chance: Random, _: int) -> dict[str, Any]:
    low = chance.randint(0, 3)
    return {"type": "string", "minLength": low, "maxLength": low + chance.randint(0, 6)}


def _pattern(chance: Random, _: int) -> dict[str, Any]:
    return {
        "type": "string",
        "pattern": chance.choice(["^[a-c]{1,5}$", "^x?y{2}$", r"^\d{3}$", "^(é|\\\\){2}$"]),
    }


def _integer(chance: Random, _: int) -> dict[str, Any]:
    low = chance.randint(-500, 500)
    return {"type": "integer", "minimum": low, "exclusiveMaximum": low + chance.randint(1, 2000)}


def _number(chance: Random, _: int) -> dict[str, Any]:
    return {"type": "number", "minimum": -2.5, "maximum": chance.choice([0, 17.25]), "multipleOf": 0.25}


def _enum(chance: Random, _: int) -> dict[str, Any]:
    return {"enum": chance.sample(["one", 2, None, True, 2.5, ["a", {"b": 1}], 'é"\n', {"k": []}], 3)}


def _const(chance: Random, _: int) -> dict[str, Any]:
    return {"const": chance.choice(["x", 0, False, [], {"q": [1, "/"]}])}


def _object(chance: Random, depth: int) -> dict[str, Any]:
    names = chance.sample(_NAMES, chance.randint(1, 4))
    return {
        "type": "object",
        "properties": {name: random_schema(chance, depth + 1) for name in names},
        "required": [name for name in names if chance.random() < 0.7],
        "additionalProperties": False,
    }


def _array(chance: Random, depth: int) -> dict[str, Any]:
    low = chance.randint(0, 2)
    items = random_schema(chance, depth + 1)
    return {"type": "array", "items": items, "minItems": low, "maxItems": low + chance.randint(0, 2)}


def _any(chance: Random, depth: int) -> dict[str, Any]:
    return {"anyOf": [random_schema(chance, depth + 1) for _ in range(2)]}


def _definition(chance: Random, depth: int) -> dict[str, Any]:
    if depth:
        return random_schema(chance, depth)
    inner = {"$defs": {"part": random_schema(chance, 1)}, "type": "array", "items": {"$ref": "#/$defs/part"}}
    return {**inner, "minItems": 1, "maxItems": 2}


_MAKERS = {
    "text": _text,
    "pattern": _pattern,
    "integer": _integer,
    "number": _number,
    "boolean": lambda *_: {"type": "boolean"},
    "null": lambda *_: {"type": "null"},
    "enum": _enum,
    "const": _const,
    "object": _object,
    "array": _array,
    "any": _any,
    "definition": _definition,
}


def random_format(chance: Random) -> dict[str, Any]:
    """A ``response_format``: a schema of its own, a pattern or a choice."""
    kind = chance.random()
    if kind < 0.7:
        return {"type": "json_schema", "schema": random_schema(chance)}
    if kind < 0.9:
        return {"type": "regex", "pattern": chance.choice(PATTERNS)}
    return {"type": "choice", "choices": chance.sample(["yes", "yes, sir", "no", "it's 5 / 7", "naïve\n"], 3)}


def keeps_to(text: str, response_format: dict[str, Any]) -> bool:
    """Whether a whole answer is one, by the word of jsonschema or re."""
    if response_format["type"] == "regex":
        return re.fullmatch(response_format["pattern"], text) is not None
    if response_format["type"] == "choice":
        return text in response_format["choices"]
    try:
        jsonschema.validate(json.loads(text), response_format["schema"], jsonschema.Draft202012Validator)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True
