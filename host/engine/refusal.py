"""Errors that say what is wrong with a request, by the name of the field."""

from __future__ import annotations

import reprlib
from typing import Any

from mlxbridge.errors import InvalidArgument, Unsupported

MAX_MESSAGE_CHARS = 300


def invalid(field: str, message: str, **details: Any) -> InvalidArgument:
    """The error for a wrong value; the message starts with the field's name, and repeats at most so much of the value.

    Args:
        field: also in the error's details.
        message: what is wrong with it, and what would be right.
        details: more for the error's details.
    """
    return InvalidArgument(_said(field, message), details={"field": field, **details})


def unsupported(field: str, message: str, **details: Any) -> Unsupported:
    """The error for what may be right, but cannot be honoured; as ``invalid``."""
    return Unsupported(_said(field, message), details={"field": field, **details})


def shown(value: Any) -> str:
    """A value for a message: short, however large or deeply nested it is."""
    return reprlib.repr(value)


def _said(field: str, message: str) -> str:
    return f"{field} {message}"[:MAX_MESSAGE_CHARS]
