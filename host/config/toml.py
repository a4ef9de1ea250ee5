"""Keys and values as TOML writes them (tomllib only reads)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


def write_value(value: Any) -> str:
    """One value, on one line; maps as inline tables.

    Args:
        value: text, a number, a boolean, or lists and maps of these.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{write_key([key])} = {write_value(inner)}" for key, inner in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(write_value, value))}]"
    return str(value)


def write_key(parts: Iterable[str]) -> str:
    """A key with dots between its parts, which are quoted where they must be."""
    return ".".join(part if _is_bare(part) else _quoted(part) for part in parts)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _is_bare(part: str) -> bool:
    return part.isascii() and part.replace("-", "a").replace("_", "a").isalnum()
