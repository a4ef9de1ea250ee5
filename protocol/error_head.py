"""Errors in the heads of ERROR and GOAWAY frames (SPEC.md §9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlxbridge.errors import BridgeError, InternalError, from_wire, to_wire
from mlxbridge.protocol.codec import encode_plain

_BRIEF_CHARS = 1000
"""What is kept of an error's text when all of it does not fit; no head with it is over the least limit."""

_FIELDS = {
    "code": int,
    "name": str,
    "message": str,
    "retryable": bool,
    "details": dict,
    "request_id": str,
}


def read_error(head: Mapping[str, Any]) -> BridgeError:
    """The error in a head; a field of a wrong type or below zero counts as missing."""
    fields = {key: head[key] for key, kind in _FIELDS.items() if type(head.get(key)) is kind}
    retry_ms = head.get("retry_after_ms")
    if type(retry_ms) is int and retry_ms >= 0:
        fields["retry_after_ms"] = retry_ms
    return from_wire(fields)


def encode_error(encode: Callable[[Any], bytes], error: BridgeError, max_bytes: int, **more: Any) -> bytes:
    """The head that tells of an error, at any rate: what cannot be said is left out.

    Args:
        more: keys beside those of the error.
    """
    try:
        head = encode_plain(encode, {**to_wire(error), **more})
        if len(head) <= max_bytes:
            return head
    except (ValueError, OverflowError):  # odd details or retry_after, lone surrogates in the text
        pass
    message = error.message[:_BRIEF_CHARS].encode(errors="backslashreplace").decode()
    plain = {"code": error.code or InternalError.code, "name": type(error).__name__, "message": message}
    return encode({**plain, "retryable": error.retryable, **more})
