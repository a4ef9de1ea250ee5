"""Rows of a step's tokens to a TOKENS frame, whose head has them in columns (SPEC.md §6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mlxbridge.errors import BridgeError, InternalError, LimitExceeded
from mlxbridge.protocol.codec import make_encoder
from mlxbridge.protocol.frames import FrameType, encode_frame
from mlxbridge.protocol.held import HeldRow
from mlxbridge.protocol.limits import MAX_ARRAY_ITEMS
from mlxbridge.protocol.parts import Part, max_bytes

COLUMNS_BYTES = 32
"""The list headers of a head, at most."""

_TOKENS = FrameType.TOKENS

NO_ROWS = encode_frame(_TOKENS, 0, make_encoder()([[], [], []]))
"""A message frame that says nothing."""


def encode_rows(
    encode: Callable[[Any], bytes],
    max_head_bytes: int,
    calls: Sequence[int],
    token_ids: Sequence[list[int]],
    texts: Sequence[str],
    logprobs: Sequence[list[bytes] | None] | None = None,
    parts: Sequence[list[Part] | None] | None = None,
) -> bytes | None:
    """One TOKENS frame; None if the guest would not take it, or if a row cannot be encoded."""
    columns: tuple[Any, ...] = (calls, token_ids, texts)
    if parts is not None:
        columns = (*columns, logprobs, parts)
    elif logprobs is not None:
        columns = (*columns, logprobs)
    try:
        head = encode(columns)
    except (TypeError, ValueError, OverflowError):
        return None
    # A collection over the bound takes a head over the bound: the common case is one comparison.
    if len(head) > MAX_ARRAY_ITEMS and (
        len(head) > max_head_bytes
        or max(len(calls), *map(len, token_ids), *(len(row or ()) for row in parts or ())) > MAX_ARRAY_ITEMS
    ):
        return None
    return encode_frame(_TOKENS, 0, head)


def encode_held_rows(
    encode: Callable[[Any], bytes], max_head_bytes: int, rows: Sequence[tuple[int, HeldRow]]
) -> bytes | None:
    """As ``encode_rows``, for rows that were held back, each with its call."""
    held = [row for _, row in rows]
    logprobs = [row.logprobs for row in held]
    parts = [row.parts for row in held]
    return encode_rows(
        encode,
        max_head_bytes,
        [call for call, _ in rows],
        [row.ids for row in held],
        [row.text for row in held],
        logprobs if any(logprobs) else None,
        parts if any(parts) else None,
    )


def why_not_encoded(row: HeldRow, max_head_bytes: int) -> BridgeError:
    """What a call ends with whose row, though it is alone, gives no frame."""
    if row.parts and max(map(max_bytes, row.parts)) > max_head_bytes:
        return LimitExceeded(
            f"a tool call may take more than the {max_head_bytes} bytes that the guest accepts"
        )
    return InternalError("the tokens cannot be encoded")
