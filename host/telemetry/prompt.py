"""How what a guest asks begins, for a log that is to have it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MAX_CHARS = 1000
_ASKED = ("prompt", "messages", "requests", "inputs", "query", "documents", "token_ids")
_INNER = ("role", "content", "text", "prompt", "messages")
_MAX_DEPTH = 6


def excerpt(params: Mapping[str, Any]) -> str | None:
    """The first ``MAX_CHARS`` characters of a call's texts, of token ids only how many; None if it has none."""
    pieces: list[str] = []
    room = MAX_CHARS
    for name in _ASKED:
        for text in _texts(params.get(name), _MAX_DEPTH):
            pieces.append(text[:room])
            room -= len(pieces[-1]) + 1
            if room <= 0:
                return " ".join(pieces)
    return " ".join(pieces) if pieces else None


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes | bytearray | memoryview):
        yield f"<{len(value) // 4} token ids>"
    elif depth and isinstance(value, Mapping):
        for name in _INNER:
            yield from _texts(value.get(name), depth - 1)
    elif depth and isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each, depth - 1)
