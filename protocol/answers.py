"""What the calls that are open at the host's end have for the guest, and the order in which it leaves (SPEC.md §6, §7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mlxbridge.errors import BridgeError, InternalError, LimitExceeded, LocalProtocolError
from mlxbridge.protocol.codec import EncodeError, encode_plain
from mlxbridge.protocol.error_head import encode_error
from mlxbridge.protocol.frames import Flag, FrameType, encode_frame, pack_header
from mlxbridge.protocol.held import Delta, HeldRow, Payload
from mlxbridge.protocol.limits import (
    MAX_ARRAY_ITEMS,
    MAX_CONNECTION_LOGPROB_BYTES,
    MAX_HELD_LOGPROB_BYTES,
    SHARED_PIECE_BYTES,
    Limits,
)
from mlxbridge.protocol.outflow import Outflow
from mlxbridge.protocol.parts import Part
from mlxbridge.protocol.rows import COLUMNS_BYTES, encode_held_rows, why_not_encoded
from mlxbridge.protocol.writer import FrameWriter

_MORE = int(Flag.MORE)
_DATA = FrameType.DATA


class Answers:
    """The open calls of a connection; each is here until its end has left.

    Theory of operation. A call that has something to say, and may, says it to the writer at once. What may not leave yet
    waits in its ``Outflow``; ``hold`` then notes the call if its credit suffices for the first of it, so that ``release``
    looks at no other.

    Args:
        writer: takes what leaves.
        encode: makes heads.

    Attributes:
        flows: by call.
        max_head_bytes: of the guest's, known once the connection is open.
        sendable: calls that hold something back and have the credit for it, in the order of their turns.
    """

    __slots__ = ("_encode", "_max_piece_bytes", "_writer", "flows", "max_head_bytes", "sendable")

    def __init__(self, writer: FrameWriter, encode: Callable[[Any], bytes]) -> None:
        self.flows: dict[int, Outflow] = {}
        self.max_head_bytes = 0
        self._max_piece_bytes = 0
        self.sendable: dict[int, None] = {}
        self._writer = writer
        self._encode = encode

    def fit(self, limits: Limits) -> None:
        """From now on send what the guest accepts."""
        self.max_head_bytes = limits.max_head_bytes
        self._max_piece_bytes = limits.max_piece_bytes

    def wanted(self, call: int) -> Outflow | None:
        """The call's, if an answer is still wanted of it, and there is none yet."""
        flow = self.flows.get(call)
        return None if flow is None or flow.cancelled or flow.final is not None else flow

    def name_of(self, call: int) -> str | None:
        """What the host calls it; None once it has ended."""
        flow = self.flows.get(call)
        return None if flow is None else flow.request_id

    def encode_head(self, name: str, value: Any) -> bytes:
        """The head of a frame of one call.

        Raises:
            LocalProtocolError: it cannot be encoded, or is larger than the guest takes.
        """
        try:
            head = encode_plain(self._encode, value)
        except EncodeError as error:
            raise LocalProtocolError(f"{name}: the head cannot be encoded ({error})") from error
        if len(head) > self.max_head_bytes:
            raise LocalProtocolError(
                f"{name}: the head has {len(head)} bytes, the guest accepts {self.max_head_bytes}"
            )
        return head

    # -- how a call ends ---------------------------------------------------------------------------------------

    def finish(self, call: int, result: Mapping[str, Any]) -> None:
        """End a call well, once what it holds back has left.

        Raises:
            LocalProtocolError: see ``encode_head``; the call goes on.
        """
        head = self.encode_head("RESULT", {**result, **self._named(call)})
        self._end(call, encode_frame(FrameType.RESULT, call, head))

    def fail(self, call: int, error: BridgeError) -> None:
        """End a call badly, once what it holds back has left; a payload that is not all there breaks off."""
        self.flows[call].break_off()
        self._end(call, self._error_frame(call, error))

    def drop(self, call: int) -> bool:
        """The guest has cancelled; whether the call has still to end."""
        flow = self.flows[call]
        flow.drop()
        if flow.final is not None:
            self.hold(call, flow)
            return False
        self.sendable.pop(call, None)
        return True

    def replace(self, calls: Iterable[int], error: BridgeError) -> None:
        """End these, which may have ended before, with an error; then look anew at what can be sent of all."""
        for call in calls:
            flow = self.flows.setdefault(call, Outflow(0, 0))
            flow.clear()
            flow.final = self._error_frame(call, error)
        for call, flow in self.flows.items():
            self.hold(call, flow)

    def clear(self) -> None:
        """Answers that come too late have nowhere to go."""
        self.flows = {}
        self.sendable = {}

    def _error_frame(self, call: int, error: BridgeError) -> bytes:
        head = encode_error(self._encode, error, self.max_head_bytes, **self._named(call))
        return encode_frame(FrameType.ERROR, call, head)

    def _named(self, call: int) -> dict[str, str]:
        request_id = self.name_of(call)
        return {} if request_id is None else {"request_id": request_id}

    def _end(self, call: int, final: bytes) -> None:
        flow = self.flows[call]
        flow.final = final
        if self._writer.blocked or flow.queue:
            self.hold(call, flow)
        else:
            self._emit_final(call, final)

    def _emit_final(self, call: int, final: bytes) -> None:
        del self.flows[call]
        self.sendable.pop(call, None)
        self._writer.emit(final, call)

    # -- what waits --------------------------------------------------------------------------------------------

    def hold(self, call: int, flow: Outflow) -> None:
        """Something of the call waits, or its credit has grown."""
        if flow.can_send():
            self.sendable[call] = None

    def hold_rows(
        self,
        calls: Sequence[int],
        token_ids: Sequence[list[int]],
        texts: Sequence[str],
        logprobs: Sequence[list[bytes] | None],
        parts: Sequence[list[Part] | None],
    ) -> None:
        """Rows of which some have logprobs. They are rare and large: all wait for ``release``, which knows sizes."""
        held = sum(flow.logprob_bytes for flow in self.flows.values())
        for call, ids, text, data, others in zip(calls, token_ids, texts, logprobs, parts, strict=True):
            flow = self.wanted(call)
            if flow is None:
                continue
            if data is not None and len(data) != len(ids):
                self.fail(call, InternalError(f"{len(ids)} tokens have {len(data)} logprobs"))
                continue
            size = sum(map(len, data or ()))
            is_held_back = self._writer.blocked or flow.items_sent >= flow.items_total
            if size and is_held_back and held + size > MAX_CONNECTION_LOGPROB_BYTES:
                self.fail(call, LimitExceeded(f"{held} bytes of logprobs wait unread on this connection"))
                continue
            held += size
            flow.merge(ids, text, data, others)
            if flow.logprob_bytes > MAX_HELD_LOGPROB_BYTES:
                self.fail(call, LimitExceeded(f"{flow.logprob_bytes} bytes of logprobs wait unread"))
            self.hold(call, flow)

    def release(self) -> None:
        """What is held back and has credit: deltas first, in one frame; then, call by call, the rest, with at most one piece."""
        writer = self._writer
        if not self.sendable or writer.blocked:
            return
        self._release_deltas()
        for call in list(self.sendable):
            if writer.blocked:
                return
            flow = self.flows[call]
            while flow.queue and flow.can_send() and not writer.blocked:
                first = flow.queue[0]
                if isinstance(first, Payload):
                    self._release_piece(call, flow, first)
                    return
                if isinstance(first, Delta):
                    break  # it may share a frame with others: the owner calls again
                flow.queue.popleft()
                flow.items_sent += 1
                writer.emit(first, call)
            if not flow.can_send():
                del self.sendable[call]
            elif not flow.queue and flow.final is not None and not writer.blocked:
                self._emit_final(call, flow.final)

    def _release_deltas(self) -> None:
        room = left = self.max_head_bytes - COLUMNS_BYTES
        rows: list[tuple[int, HeldRow]] = []
        for call in list(self.sendable):
            flow = self.flows[call]
            delta = flow.first_delta()
            if delta is None:
                continue
            size = delta.max_bytes()
            if rows and (size > left or len(rows) == MAX_ARRAY_ITEMS):
                self._emit_rows(rows)
                rows, left = [], room
                if self._writer.blocked:
                    return
            rows.append((call, flow.take(delta, room)))
            left -= size
        if rows:
            self._emit_rows(rows)

    def _emit_rows(self, rows: list[tuple[int, HeldRow]]) -> None:
        """Rows that fit one frame; a row that cannot be encoded ends its call, and no other."""
        frame = encode_held_rows(self._encode, self.max_head_bytes, rows)
        if frame is not None:
            self._writer.emit(frame)
            return
        for row in rows:
            call, held = row
            if self._writer.blocked:
                self.flows[call].put_back(held)
            elif (frame := encode_held_rows(self._encode, self.max_head_bytes, [row])) is not None:
                self._writer.emit(frame)
            else:
                self.flows[call].clear()
                if self.flows[call].final is None:
                    self.fail(call, why_not_encoded(held, self.max_head_bytes))

    def _release_piece(self, call: int, flow: Outflow, payload: Payload) -> None:
        most = self._max_piece_bytes
        if len(self.flows) > 1:
            most = min(most, SHARED_PIECE_BYTES)
        size = min(payload.held, most, flow.bytes_total - flow.bytes_sent)
        head = b"" if payload.sent else payload.head
        flags = _MORE if size < payload.unsent else 0
        header = pack_header(len(head) + size, len(head), call, _DATA, flags, 0)
        self._writer.emit(header + head, call, payload.take(size))
        flow.bytes_sent += size
        if not flags:
            flow.queue.popleft()
        del self.sendable[call]  # to the end of the line, so that payloads of several calls take turns
        self.hold(call, flow)
        if payload.on_sent is not None:
            payload.on_sent(size)
