"""The parts of an answer that are not text, as they are in TOKENS (SPEC.md §10): lists that begin with a kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mlxbridge.errors import RemoteProtocolError
from mlxbridge.protocol.limits import MAX_ARRAY_ITEMS
from mlxbridge.types import ToolCall

REASONING = 1
TOOL_CALL = 2
MALFORMED_CALL = 3

_FIELDS: dict[int, list[type]] = {
    REASONING: [str],
    TOOL_CALL: [int, str, str, str],
    MALFORMED_CALL: [int, str],
}
_PART_BYTES = 16
"""What a part takes beside its strings, at most: the list's header, kind and index."""

_STRING_BYTES = 5
_CHAR_BYTES = 4
"""What a string takes beside its characters, and what each of them does, at most."""

Part = list[Any]


def encode_part(part: str | ToolCall) -> Part:
    """A part of an answer: a text is reasoning."""
    if isinstance(part, str):
        return [REASONING, part]
    if part.malformed:
        return [MALFORMED_CALL, part.index, part.text]
    return [TOOL_CALL, part.index, part.id, part.name, part.text]


def decode_part(part: Part) -> str | ToolCall | None:
    """The reverse of ``encode_part`` for what ``check_parts`` lets through; None for a kind that is not known."""
    if part[0] == REASONING:
        return str(part[1])
    if part[0] == TOOL_CALL:
        _, index, call_id, name, text, *_ = part
        arguments = _decode_arguments(text)
        return ToolCall(
            index=index, id=call_id, name=name, arguments=arguments, text=text, malformed=arguments is None
        )
    if part[0] == MALFORMED_CALL:
        return ToolCall(index=part[1], id="", name="", arguments=None, text=part[2], malformed=True)
    return None


def check_parts(column: Any, num_rows: int) -> None:
    """Refuse what is no fifth list of a TOKENS head.

    Raises:
        RemoteProtocolError: it is not as long as the others, or a part has not the fields of its kind.
    """
    if type(column) is not list or len(column) != num_rows:
        raise RemoteProtocolError("TOKENS: parts must be a list as long as the others")
    for row in column:
        if row is not None and not (type(row) is list and all(map(_is_part, row))):
            raise RemoteProtocolError("TOKENS: a row's parts must be nil or lists of a kind and its fields")


def _is_part(part: Any) -> bool:
    if type(part) is not list or not part or type(part[0]) is not int:
        return False
    types = _FIELDS.get(part[0], [])
    return len(part) > len(types) and list(map(type, part[1 : len(types) + 1])) == types


def _decode_arguments(text: str) -> dict[str, Any] | None:
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return arguments if isinstance(arguments, dict) else None


# -- of a row that is held back


def melt(parts: Sequence[Part]) -> list[Part]:
    """The same parts, where reasoning that follows reasoning is one part."""
    melted: list[Part] = []
    texts: list[str] = []
    for part in parts:
        if part[0] == REASONING:
            texts.append(part[1])
            continue
        if texts:
            melted.append([REASONING, "".join(texts)])
            texts = []
        melted.append(part)
    if texts:
        melted.append([REASONING, "".join(texts)])
    return melted


def max_bytes(part: Part) -> int:
    """The most that a part can take in a TOKENS head."""
    strings = [field for field in part if isinstance(field, str)]
    return _PART_BYTES + _STRING_BYTES * len(strings) + _CHAR_BYTES * sum(map(len, strings))


def split(parts: Sequence[Part], most_bytes: int) -> tuple[list[Part], list[Part]]:
    """Melted parts in two: what surely fits, at least one part or some reasoning, and the rest.

    Reasoning is cut where it must be. A tool call is not: one that does not fit is given all the same, alone.
    """
    taken: list[Part] = []
    for number, part in enumerate(parts):
        size = max_bytes(part)
        if size <= most_bytes and len(taken) < MAX_ARRAY_ITEMS:
            taken.append(part)
            most_bytes -= size
            continue
        rest = list(parts[number:])
        if taken:
            return taken, rest
        if part[0] != REASONING:
            return rest[:1], rest[1:]
        num_chars = max(1, (most_bytes - _PART_BYTES - _STRING_BYTES) // _CHAR_BYTES)
        return [[REASONING, part[1][:num_chars]]], [[REASONING, part[1][num_chars:]], *rest[1:]]
    return taken, []
