"""What the tool calls of an answer keep to: the way in which the model's kind writes them, and the schemas of their tools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlxbridge.host.engine.grammar.call_format import call_format
from mlxbridge.host.engine.grammar.compiler import WHITESPACE
from mlxbridge.host.engine.grammar.json_schema import check_schema, subschemas
from mlxbridge.host.engine.grammar.response_format import MAX_CHARS, Source
from mlxbridge.host.engine.interface import GenerateRequest
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.refusal import invalid, shown, unsupported
from mlxbridge.host.engine.text.answer_format import call_markers, parser_name

_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
_ANY_ARGUMENTS = {"type": "object"}


def source_of(loaded: LoadedModel, request: GenerateRequest) -> Source | None:
    """What a request's answer is held to, if to anything.

    Raises:
        InvalidArgument, Unsupported: see ``held_calls``.
    """
    return held_calls(loaded, request) if request.holds_calls else request.response_format


def held_calls(loaded: LoadedModel, request: GenerateRequest) -> Source:
    """What keeps a request's answer to calls of its tools, or of the one that ``tool_choice`` names, if it has to call; else what
    keeps those calls that the model makes to strict tools' schemas.

    Raises:
        InvalidArgument, Unsupported: this kind of model's calls cannot be held to anything, or parameters of a tool are no
            schema that arguments can be held to; ``details["field"]`` names it.
    """
    has_to_call, choice = request.has_to_call, request.tool_choice
    functions = [
        (f"tools[{index}].function", tool["function"])
        for index, tool in enumerate(request.tools)
        if not isinstance(choice, Mapping) or tool["function"]["name"] == choice["name"]
    ]
    form = call_format(loaded.tokenizer)
    if form is None:
        why = f"the calls of {loaded.name} are no JSON ({parser_name(loaded.tokenizer)})"
        if has_to_call:
            raise unsupported("tool_choice", f"cannot be enforced: {why}; it is auto or none here")
        strict = next(field for field, function in functions if function.get("strict"))
        raise unsupported(f"{strict}.strict", f"cannot be kept: {why}")
    markers = tuple(sorted(call_markers(loaded.tokenizer)))
    write = form.answer if has_to_call else form.behind_start
    names = [function["name"] for _, function in functions]
    rules = [*write(names, is_parallel=request.parallel_tool_calls)]
    schemas = []
    for number, (field, function) in enumerate(functions):
        if not form.can_name(function["name"]):
            raise unsupported(f"{field}.name", f"has no place in a call of {loaded.name}'s")
        schema: Mapping[str, Any] = _ANY_ARGUMENTS
        if has_to_call or function.get("strict"):
            schema = _schema(f"{field}.parameters", function.get("parameters"))
        _check_texts(f"{field}.name", function["name"], f"{field}.parameters", schema, markers)
        options = {"whitespace_pattern": WHITESPACE}
        rules.append(f"arguments_{number}: %json {_json({**schema, 'x-guidance': options})}")
        schemas.append(Source("json_schema", f"{field}.parameters", _json(schema)))
    lark = "\n".join(rules)
    if len(lark) > MAX_CHARS:
        raise invalid(
            "tools", f"take {len(lark)} characters; where calls are held to them there may be {MAX_CHARS}"
        )
    return Source(
        "grammar",
        "tool_choice" if has_to_call else "tools",
        lark,
        without=markers,
        schemas=tuple(schemas),
        behind="" if has_to_call else form.start,
        recurs=not has_to_call and form.is_closed,
    )


def _schema(field: str, parameters: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if parameters is None:
        return _NO_ARGUMENTS
    check_schema(field, parameters)
    if parameters.get("type", "object") != "object":
        raise invalid(f"{field}.type", "must be object: arguments have names")
    return {**parameters, "type": "object"}


def _check_texts(
    name_field: str, name: str, field: str, schema: Mapping[str, Any], markers: Sequence[str]
) -> None:
    """Refuse what would have to be written in a call, and would end it."""
    demanded: list[tuple[str, Any]] = [(name_field, name)]
    for path, part in subschemas(field, schema):
        for key in ("const", "enum", "required", "properties"):
            value = part.get(key)
            demanded.append((f"{path}.{key}", list(value) if isinstance(value, Mapping) else value))
    for path, value in demanded:
        written = _json(value)
        for marker in markers:
            if marker in written:
                raise unsupported(path, f"has {shown(marker)} in it, with which this model marks its calls")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
