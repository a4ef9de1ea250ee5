"""What an answer that has to call a tool keeps to: calls as the model's kind writes them, with arguments by their schemas.

Only for kinds whose arguments are JSON: how the others write a value is no affair of JSON schemas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mlxbridge.host.engine.grammar.compiler import WHITESPACE
from mlxbridge.host.engine.grammar.json_schema import check_schema, subschemas
from mlxbridge.host.engine.grammar.response_format import MAX_CHARS, Source
from mlxbridge.host.engine.interface import GenerateRequest
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.refusal import invalid, shown, unsupported
from mlxbridge.host.engine.text.answer_format import call_markers, parser_name

_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}


def source_of(loaded: LoadedModel, request: GenerateRequest) -> Source | None:
    """What a request's answer is held to, if to anything.

    Raises:
        InvalidArgument, Unsupported: see ``required_call``.
    """
    return required_call(loaded, request) if request.has_to_call else request.response_format


def required_call(loaded: LoadedModel, request: GenerateRequest) -> Source:
    """What keeps a request's answer to calls of its tools, or of the one that ``tool_choice`` names.

    Raises:
        InvalidArgument, Unsupported: this kind of model's calls cannot be enforced, or parameters of a tool are no schema
            that arguments can be held to; ``details["field"]`` names it.
    """
    kind = parser_name(loaded.tokenizer) or ""
    if kind not in _KINDS:
        raise unsupported(
            "tool_choice",
            f"cannot be enforced: the calls of {loaded.name} are no JSON ({kind}); it is auto or none here",
        )
    markers = tuple(sorted(call_markers(loaded.tokenizer)))
    choice = request.tool_choice
    functions = [
        (f"tools[{index}].function", tool["function"])
        for index, tool in enumerate(request.tools)
        if not isinstance(choice, Mapping) or tool["function"]["name"] == choice["name"]
    ]
    write = _Writer(loaded.tokenizer)
    names = [function["name"] for _, function in functions]
    rules = [*_KINDS[kind](write, names, request.parallel_tool_calls)]
    schemas = []
    for number, (field, function) in enumerate(functions):
        if kind in _NAMES and not _NAMES[kind].fullmatch(function["name"]):
            raise unsupported(f"{field}.name", f"has no place in a call of {loaded.name}'s")
        schema = _schema(f"{field}.parameters", function.get("parameters"))
        _check_texts(f"{field}.name", function["name"], f"{field}.parameters", schema, markers)
        options = {"whitespace_pattern": WHITESPACE}
        rules.append(f"arguments_{number}: %json {_json({**schema, 'x-guidance': options})}")
        schemas.append(Source("json_schema", f"{field}.parameters", _json(schema)))
    lark = "\n".join(rules)
    if len(lark) > MAX_CHARS:
        raise invalid(
            "tools", f"take {len(lark)} characters; where a call is enforced there may be {MAX_CHARS}"
        )
    return Source("grammar", "tool_choice", lark, without=markers, schemas=tuple(schemas))


class _Writer:
    """Writes sequences in Lark: of texts, of arguments by their number, and of markers."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def knows(self, marker: str) -> bool:
        """Whether a marker is a token."""
        return self._token(marker) is not None

    def marker(self, marker: str) -> str:
        """A marker: its token, special or not, where there is one."""
        token = self._token(marker)
        return _json(marker) if token is None else f"<[{token}]>"

    def _token(self, marker: str) -> int | None:
        token: int | None = self._tokenizer.convert_tokens_to_ids(marker)
        is_known = token is not None and self._tokenizer.convert_ids_to_tokens(token) == marker
        return token if is_known else None

    def call(self, number: int, name: str) -> str:
        """A call as one object."""
        begin = _json(f'{{"name": {_json(name)}, "arguments": ')
        return f'{begin} arguments_{number} "}}"'


_Write = Callable[[_Writer, Sequence[str], bool], Iterator[str]]


def _json_tools(write: _Writer, names: Sequence[str], is_parallel: bool) -> Iterator[str]:
    yield 'start: call ("\\n" call)*' if is_parallel else "start: call"
    yield f'call: {write.marker("<tool_call>")} "\\n" (any) "\\n" {write.marker("</tool_call>")}'
    yield f"any: {_any(write.call(*each) for each in enumerate(names))}"


def _mistral(write: _Writer, names: Sequence[str], is_parallel: bool) -> Iterator[str]:
    start, middle = write.marker("[TOOL_CALLS]"), write.marker("[ARGS]")
    if write.knows("[ARGS]"):
        yield "start: call+" if is_parallel else "start: call"
        calls = (f"{_json(name)} {middle} arguments_{number}" for number, name in enumerate(names))
        yield f"call: {start} ({_any(calls)})"
    else:
        more = '(", " call)*' if is_parallel else ""
        yield f'start: {start} "[" call {more} "]"'
        yield f"call: {_any(write.call(*each) for each in enumerate(names))}"


def _kimi_k2(write: _Writer, names: Sequence[str], is_parallel: bool) -> Iterator[str]:
    start, end = write.marker("<|tool_calls_section_begin|>"), write.marker("<|tool_calls_section_end|>")
    yield f"start: {start} {'call+' if is_parallel else 'call'} {end}"
    middle = write.marker("<|tool_call_argument_begin|>")
    calls = (f"{_json(f'functions.{name}:')} NUMBER {middle} arguments_{i}" for i, name in enumerate(names))
    yield f"call: {write.marker('<|tool_call_begin|>')} ({_any(calls)}) {write.marker('<|tool_call_end|>')}"
    yield "NUMBER: /[0-9]{1,4}/"


# By mlx_lm's parser.
_KINDS: Mapping[str, _Write] = {"json_tools": _json_tools, "mistral": _mistral, "kimi_k2": _kimi_k2}
# The names that it reads, where not all.
_NAMES = {"mistral": re.compile(r"[\w-]+")}


def _any(choices: Iterator[str]) -> str:
    return " | ".join(choices)


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
