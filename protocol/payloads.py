"""Pieces to payloads: where each goes, and what the application is told of it (SPEC.md §7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlxbridge.errors import LimitExceeded, RemoteProtocolError
from mlxbridge.protocol.events import DataReceived, PieceReceived
from mlxbridge.protocol.frames import CHECKED_HEADER_BYTES, Flag
from mlxbridge.protocol.inflow import Inflow

_MORE = int(Flag.MORE)


class PayloadReader:
    """The piece that a connection is receiving. What has come of its payload is in the call's ``Inflow``.

    Args:
        max_bytes: of a payload.
        allocate: gives writable memory of so many bytes for a payload, or for a piece.
        piecewise: tell of each piece; else of payloads that are whole.

    Attributes:
        call: whose piece it is.
    """

    __slots__ = ("_allocate", "_max_bytes", "_piecewise", "_size", "call")

    def __init__(self, max_bytes: int, allocate: Callable[[int], Any], *, piecewise: bool) -> None:
        self.call = 0
        self._size = 0
        self._max_bytes = max_bytes
        self._allocate = allocate
        self._piecewise = piecewise

    def begin(self, call: int, flow: Inflow, flags: int, head: Any, size: int) -> memoryview:
        """A DATA frame begins: where its payload goes, with the rest of a payload of several.

        Raises:
            RemoteProtocolError: it has more than was granted, or is no piece of what its call is inside of.
            LimitExceeded: its payload is too large, or there is no memory for it.
        """
        flow.bytes_received += size
        if flow.bytes_received > flow.bytes_granted or not flow.bytes_granted:
            raise RemoteProtocolError(f"DATA: call {call} has no credit left")
        if flow.payload_bytes is None:
            flow.payload_bytes, flow.payload_filled = self._begin_payload(head), 0
            flow.meta = head
            if not self._piecewise:
                flow.payload = self._memory(flow.payload_bytes)
        elif head is not None:
            raise RemoteProtocolError("DATA: only a payload's first piece has a head")
        rest = flow.payload_bytes - flow.payload_filled
        more = bool(flags & _MORE)
        if size > rest or more is not (size < rest) or more and not size:
            raise RemoteProtocolError(
                f"DATA: a piece of {size} bytes with{'' if more else 'out'} MORE, where {rest} are missing"
            )
        self.call, self._size = call, size
        if self._piecewise:
            flow.payload = self._memory(size, beside=CHECKED_HEADER_BYTES)
            return flow.payload
        return flow.payload[flow.payload_filled :]

    def end(self, flow: Inflow) -> DataReceived | PieceReceived | None:
        """The piece is whole: what is to be told of it, or of all of which it was the last."""
        event: DataReceived | PieceReceived | None = None
        flow.payload_filled += self._size
        whole = flow.payload_filled == flow.payload_bytes
        if self._piecewise:
            meta = flow.meta if flow.payload_filled == self._size else None
            event = PieceReceived(self.call, meta, flow.payload[: self._size])
        elif whole:
            event = DataReceived(self.call, flow.meta, flow.payload)
        if whole:
            flow.payload_bytes, flow.payload_filled, flow.meta = None, 0, {}
        if whole or self._piecewise:
            flow.payload = memoryview(b"")
        return event

    def _begin_payload(self, head: Any) -> int:
        size = head.get("nbytes") if isinstance(head, dict) else None
        if type(size) is not int or size < 0:
            raise RemoteProtocolError("DATA: a payload's first piece needs nbytes in its head")
        if size > self._max_bytes:
            raise LimitExceeded(f"DATA: payload of {size} bytes, at most {self._max_bytes}")
        return size

    def _memory(self, size: int, beside: int = 0) -> memoryview:
        """Room for a payload or a piece, and beside it for the header that follows."""
        if not size:
            return memoryview(b"")  # an empty array has no view of bytes
        try:
            return memoryview(self._allocate(size + beside)).cast("B")
        except MemoryError as error:
            raise LimitExceeded(f"DATA: no memory for a payload of {size} bytes") from error
