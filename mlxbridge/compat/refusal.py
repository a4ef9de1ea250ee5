"""How drop-ins refuse what the host cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxbridge.errors import UsageError


class MissingAttribute(UsageError, AttributeError):
    """The original has it, and the drop-in does not; the message says what there is."""


def refused(field: str, why: str) -> UsageError:
    """The error for an argument; the message begins with its name, which ``details["field"]`` has too."""
    return UsageError(f"{field}: {why}", details={"field": field})


def refuse_all(given: Mapping[str, Any], known: Mapping[str, tuple[Any, str]], function: str) -> None:
    """Refuse what a drop-in takes in no way but left out.

    Args:
        given: arguments, by name.
        known: the original's arguments, each with its default, which is as good as nothing, and why there is no other.
        function: that was called, for the message.

    Raises:
        UsageError: it names the first one, and why.
    """
    for name, value in given.items():
        if name not in known:
            raise refused(name, f"{function} has no such parameter")
        default, why = known[name]
        if value is not None and not (type(value) is type(default) and value == default):
            raise refused(name, why)
