"""How an engine's answers are told on the wire (SPEC.md §10)."""

from __future__ import annotations

import logging
import sys
from array import array
from collections.abc import Iterable
from typing import Any

from mlxbridge.errors import BridgeError, InternalError
from mlxbridge.logs import fields
from mlxbridge.protocol.host import HostConnection
from mlxbridge.types import Usage

log = logging.getLogger(__name__)


def pack_token_ids(token_ids: Iterable[int]) -> bytes:
    """Token ids as u32, little-endian."""
    packed = array("I", token_ids)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def usage_to_wire(usage: Usage) -> dict[str, Any]:
    """A generate call's RESULT (SPEC.md §10)."""
    result: dict[str, Any] = {
        "finish_reason": usage.finish_reason,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "queue_ms": usage.queue_seconds * 1000,
        "prefill_ms": usage.prefill_seconds * 1000,
        "decode_ms": usage.decode_seconds * 1000,
    }
    if usage.reasoning_tokens is not None:
        result["reasoning_tokens"] = usage.reasoning_tokens
    if usage.draft_tokens:
        result["draft_tokens"] = usage.draft_tokens
        result["accepted_tokens"] = usage.accepted_tokens
    if usage.stop_string is not None:
        result["stop_string"] = usage.stop_string
    if usage.stop_token_id is not None:
        result["stop_token_id"] = usage.stop_token_id
    return result


def fail_call(connection: HostConnection, call: int, error: BridgeError) -> None:
    """End a call badly; a fault of the host's has a line in the log."""
    if isinstance(error, InternalError):
        request_id = connection.name_of(call)
        log.error("request %s: %s", request_id, error.message, extra=fields(request_id=request_id))
    connection.fail(call, error)
