"""What a call's ``response_format`` may be, checked by name before anything is compiled (SPEC.md §10)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlxbridge.host.engine.grammar.json_schema import check_schema, is_schema
from mlxbridge.host.engine.grammar.lark import check_lark
from mlxbridge.host.engine.refusal import invalid, shown, unsupported

# Compiling so much takes a tenth of a second.
MAX_CHARS = 65_536
_MAX_NAME_CHARS = 64

Kind = Literal["json_schema", "regex", "grammar", "choice"]

# What each type has beside ``type``.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "json_schema": ("schema",),
    "json_object": (),
    "regex": ("pattern",),
    "grammar": ("grammar",),
    "choice": ("choices",),
}
# What OpenAI nests in ``json_schema``; the name is a label, and all schemas are kept to strictly.
_NESTED_KEYS = ("name", "strict", "schema")


@dataclass(frozen=True, slots=True)
class Source:
    """What an answer has to keep to, as its caller wrote it.

    Attributes:
        kind: what ``text`` is: a JSON schema, a regex, a Lark grammar, or a JSON list of texts.
        field: where it stands in the request, for refusals.
        schemas: of those in a grammar, to find the one to blame.
        without: texts that the answer does not contain where it could go on otherwise.
        behind: the marker behind which it keeps to it; before that the answer is free. Empty: it does from the beginning.
        recurs: once that which it keeps to is whole, the answer is free again, up to the next such marker.
    """

    kind: Kind
    field: str
    text: str
    schemas: tuple[Source, ...] = ()
    without: tuple[str, ...] = ()
    behind: str = ""
    recurs: bool = False

    @property
    def param(self) -> str:
        """Which of the request's it is."""
        return self.field.partition(".")[0]


def read_response_format(value: Any) -> Source:
    """Check all that can be checked without compiling.

    Raises:
        InvalidArgument, Unsupported: ``details["field"]`` names what is wrong, inside a schema too; in a grammar
            ``details["line"]`` and ``details["column"]`` say where.
    """
    if not isinstance(value, Mapping):
        raise invalid("response_format", f"must be a map with a type, not {shown(value)}")
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _KEYS:
        if is_schema(value):
            told = (
                'is a JSON schema itself: give {"type": "json_schema", "schema": …}, with this as the schema'
            )
            raise invalid("response_format", told)
        raise invalid(
            "response_format.type",
            f"must be one of {', '.join(_KEYS)}, not {shown(kind)}; for text leave it out",
        )
    if kind == "json_schema" and "json_schema" in value:
        _check_keys("response_format", value, ("type", "json_schema"))
        return _read_nested(value["json_schema"])
    _check_keys("response_format", value, ("type", *_KEYS[kind]))
    if kind == "json_object":
        return Source("json_schema", "response_format.type", '{"type": "object"}')
    (key,) = _KEYS[kind]
    field = f"response_format.{key}"
    if key not in value:
        raise invalid(field, f"must be given where the type is {kind}")
    return _READERS[kind](field, value[key])


def _read_nested(value: Any) -> Source:
    field = "response_format.json_schema"
    if not isinstance(value, Mapping):
        raise invalid(field, f"must be a map with name, strict and schema, not {shown(value)}")
    _check_keys(field, value, _NESTED_KEYS)
    name = value.get("name", "")
    if not isinstance(name, str) or len(name) > _MAX_NAME_CHARS:
        raise invalid(f"{field}.name", f"must be a text of at most {_MAX_NAME_CHARS} characters")
    if not isinstance(value.get("strict"), bool | None):
        raise invalid(f"{field}.strict", f"must be true or false, not {shown(value['strict'])}")
    if "schema" not in value:
        raise invalid(f"{field}.schema", "must be given")
    return _read_schema(f"{field}.schema", value["schema"])


def _read_schema(field: str, schema: Any) -> Source:
    check_schema(field, schema)
    return Source("json_schema", field, _check_text(field, json.dumps(schema, ensure_ascii=False)))


def _read_pattern(field: str, pattern: Any) -> Source:
    return Source("regex", field, _check_text(field, pattern))


def _read_grammar(field: str, grammar: Any) -> Source:
    text = _check_text(field, grammar)
    check_lark(field, text)
    return Source("grammar", field, text)


def _read_choices(field: str, choices: Any) -> Source:
    if isinstance(choices, str | bytes | Mapping) or not isinstance(choices, Sequence) or not choices:
        raise invalid(field, f"must be a list of texts, not {shown(choices)}")
    for index, text in enumerate(choices):
        _check_text(f"{field}[{index}]", text)
    return Source("choice", field, _check_text(field, json.dumps(list(choices), ensure_ascii=False)))


_READERS = {
    "json_schema": _read_schema,
    "regex": _read_pattern,
    "grammar": _read_grammar,
    "choice": _read_choices,
}


def _check_text(field: str, text: Any) -> str:
    if not isinstance(text, str) or not text:
        raise invalid(field, f"must be a text, and not empty, instead of {shown(text)}")
    if len(text) > MAX_CHARS:
        raise invalid(field, f"has {len(text)} characters; there may be {MAX_CHARS}")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise invalid(field, f"holds half a character (a lone surrogate) at {exc.start}") from exc
    return text


def _check_keys(field: str, value: Mapping[Any, Any], known: Sequence[str]) -> None:
    for key in value:
        if key not in known:
            raise unsupported(f"{field}.{str(key)[:100]}", f"is not supported; there is {', '.join(known)}")
