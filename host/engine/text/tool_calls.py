"""Tool calls, read from what a model writes between its markers. mlx_lm's parsers know how each kind of model writes them."""

from __future__ import annotations

import json
import math
import re
import secrets
import string
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Parse = Callable[[str, Any], Any]
"""A ``parse_tool_call`` of ``mlx_lm.tool_parsers``: text and tools to one call or several, maps with name and arguments."""

# Some of Mistral's write one between name and arguments; mlx_lm's parser takes it for the name.
_MISTRAL_ID = re.compile(r"\[CALL_ID\](\w+)(?=\[ARGS\])")
_ID_CHARS = string.ascii_letters + string.digits
# What Mistral's templates want, and every other takes.
_NUM_ID_CHARS = 9


class ParsedCall(NamedTuple):
    """A call that has been read; ``text`` is its arguments as JSON."""

    id: str
    name: str
    arguments: dict[str, Any]
    text: str


class CallReader:
    """Reads calls of a request's tools."""

    def __init__(self, parse: Parse, tools: Sequence[Mapping[str, Any]]) -> None:
        self._parse = parse
        # Some parsers take it for granted that a function has parameters.
        self._tools = [{**tool, "function": {"parameters": {}, **tool["function"]}} for tool in tools]
        self._names = {tool["function"]["name"] for tool in tools}

    def read(self, text: str) -> list[ParsedCall]:
        """The calls in what was written between two markers, at least one.

        Raises:
            ValueError: it is none, or not wholly.
        """
        ids = _MISTRAL_ID.findall(text)
        try:
            parsed = self._parse(_MISTRAL_ID.sub("", text) if ids else text, self._tools)
            several = parsed if isinstance(parsed, list) else [parsed]
            for call, call_id in zip(several, ids, strict=False):
                call.setdefault("id", call_id)
            calls = [self._check(call) for call in several]
        except Exception as exc:  # parsers raise what they like
            raise ValueError(f"no tool call: {type(exc).__name__}: {exc}") from exc
        if not calls:
            raise ValueError("no tool call")
        return calls

    def _check(self, call: Any) -> ParsedCall:
        name, arguments = call["name"], call.get("arguments")
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        if arguments is None:
            arguments = {}
        if not isinstance(name, str) or not name or not isinstance(arguments, dict):
            raise ValueError("a call is a name and an object of arguments")
        if name not in self._names and list(arguments) == ["raw"]:
            raise ValueError("the parser took text for a call")  # glm47's does, whatever the text
        arguments = _finite(arguments)
        given_id = call.get("id")
        call_id = given_id if isinstance(given_id, str) and given_id else _new_id()
        (call_id + name).encode()  # a lone surrogate cannot be sent
        return ParsedCall(call_id, name, arguments, _dump(arguments))


def _finite(value: Any) -> Any:
    """With 1e999, which is JSON but no float64, as the largest number that is one."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    if isinstance(value, float) and math.isinf(value):
        return math.copysign(sys.float_info.max, value)
    return value


def _dump(arguments: dict[str, Any]) -> str:
    text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can only spell
        return json.dumps(arguments, allow_nan=False)
    return text


def _new_id() -> str:
    return "".join(secrets.choice(_ID_CHARS) for _ in range(_NUM_ID_CHARS))
