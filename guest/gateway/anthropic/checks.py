"""Reading JSON values that have to be of a kind; what is not is refused by its path: ``messages.0.content.1.text``."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from mlxbridge.compat.refusal import refused

_MOST_SHOWN = 80


def read_object(value: Any, path: str, known: Collection[str] = ()) -> dict[str, Any]:
    """A JSON object without what is null in it.

    Args:
        value: as it was decoded.
        path: where it stands.
        known: the members that it may have; any, if none are named.

    Raises:
        UsageError: it is none, or has another member.
    """
    if not isinstance(value, dict):
        raise refused(path, f"must be an object, not {_kind(value)}")
    given = value
    if None in value.values():
        given = {name: member for name, member in value.items() if member is not None}
    for name in given if known else ():
        if name not in known:
            raise refused(f"{path}.{name}", f"is not supported; there are {', '.join(known)}")
    return given


def read_list(value: Any, path: str) -> list[Any]:
    """A JSON array.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(value, list):
        raise refused(path, f"must be a list, not {_kind(value)}")
    return value


def read_text(value: Any, path: str) -> str:
    """A string.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(value, str):
        raise refused(path, f"must be a text, not {_kind(value)}")
    return value


def read_choice(value: Any, path: str, known: Iterable[str]) -> str:
    """One of some strings.

    Raises:
        UsageError: it is none of them.
    """
    choices = list(known)
    if not isinstance(value, str) or value not in choices:
        names = ", ".join(f'"{one}"' for one in choices)
        raise refused(path, f"must be {'one of ' * (len(choices) > 1)}{names}, not {_shown(value)}")
    return value


def read_switch(value: Any, path: str) -> bool:
    """A boolean.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(value, bool):
        raise refused(path, f"must be true or false, not {_kind(value)}")
    return value


def _shown(value: Any) -> str:
    return f'"{value[:_MOST_SHOWN]}"' if isinstance(value, str) else _kind(value)


def _kind(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a boolean",
        type(None): "missing or null",
    }
    return names.get(type(value), "a number")
