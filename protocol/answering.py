"""The end that answers calls, once the connection is open: values in, frames of calls out (SPEC.md §6, §7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlxbridge.errors import (
    BridgeError,
    InternalError,
    LimitExceeded,
    LocalProtocolError,
    RemoteProtocolError,
    Unavailable,
)
from mlxbridge.protocol.answers import Answers
from mlxbridge.protocol.codec import Buffer
from mlxbridge.protocol.connection import Connection
from mlxbridge.protocol.events import CallCancelled, CallOpened, PeerInfo
from mlxbridge.protocol.frames import FrameType, encode_frame
from mlxbridge.protocol.held import Payload
from mlxbridge.protocol.limits import (
    MAX_CALL_ID,
    MAX_QUEUED_ITEMS,
    MAX_TOTAL,
    Limits,
)
from mlxbridge.protocol.outflow import Outflow
from mlxbridge.protocol.parts import Part
from mlxbridge.protocol.reader import Handler
from mlxbridge.protocol.rows import encode_rows
from mlxbridge.protocol.state import Role, State


class AnsweringConnection(Connection):
    """Receives calls and answers each exactly once, with ``finish`` or ``fail``; see ``HostConnection``."""

    role = Role.HOST

    def __init__(
        self, *, software: str, nonce: bytes, limits: Limits | None, features: frozenset[str]
    ) -> None:
        super().__init__(software=software, nonce=nonce, limits=limits, features=features)
        self._answers = Answers(self._writer, self._encode)
        self._last_call = 0

    @property
    def num_calls(self) -> int:
        """Calls whose end has not left yet."""
        return len(self._answers.flows)

    def is_open(self, call: int) -> bool:
        """Whether the call still wants an answer."""
        flow = self._answers.flows.get(call)
        return flow is not None and flow.final is None

    def name_call(self, call: int, request_id: str) -> None:
        """Have the end of a call tell the guest what this host calls it (SPEC.md §6)."""
        flow = self._answers.flows.get(call)
        if flow is not None:
            flow.request_id = request_id

    def name_of(self, call: int) -> str | None:
        """What ``name_call`` has called it; None once it has ended."""
        return self._answers.name_of(call)

    def num_held(self, call: int) -> int:
        """Items and payloads of a call that have not left; 0 if it has ended."""
        flow = self._answers.flows.get(call)
        return 0 if flow is None else len(flow.queue)

    def items_granted(self, call: int) -> int:
        """The guest's credit for items of a call, in all since it began; 0 once nothing more is wanted of it."""
        flow = self._answers.wanted(call)
        return 0 if flow is None else flow.items_total

    @property
    def held_payload_bytes(self) -> int:
        """What has not left of the payloads of all calls, whether it has come or not."""
        flows = self._answers.flows.values()
        return sum(part.unsent for flow in flows for part in flow.queue if isinstance(part, Payload))

    @property
    def held_bytes(self) -> int:
        """About what all that takes that the guest has not got, or may have missed."""
        return self.num_kept_bytes + sum(flow.held_bytes for flow in self._answers.flows.values())

    # -- tokens ------------------------------------------------------------------------------------------------

    def send_tokens(
        self,
        calls: Sequence[int],
        token_ids: Sequence[list[int]],
        texts: Sequence[str],
        logprobs: Sequence[list[bytes] | None] | None = None,
        parts: Sequence[list[Part] | None] | None = None,
    ) -> None:
        """A step's tokens, one row a call; rows of calls that have ended or were cancelled are dropped.

        A call without credit, and every call while the connection is blocked, merges its rows into one delta.

        Args:
            logprobs: for each row None, or one byte string a token (``protocol.logprobs``); None if no row has any.
            parts: for each row None, or what of the answer is not text (``protocol.parts``); None if no row has any.
        """
        if logprobs is not None:
            self._answers.hold_rows(calls, token_ids, texts, logprobs, parts or [None] * len(calls))
            return
        answers = self._answers
        flows = answers.flows
        blocked = self._writer.blocked
        sent: list[int] = []  # places in the columns
        for place, (call, ids, text) in enumerate(zip(calls, token_ids, texts, strict=True)):
            flow = flows.get(call)
            if flow is None or flow.cancelled or flow.final is not None:
                continue
            if blocked or flow.queue or flow.items_sent >= flow.items_total:
                flow.merge(ids, text, None, parts[place] if parts else None)
                answers.hold(call, flow)
            else:
                flow.items_sent += 1
                sent.append(place)
        if not sent:
            return
        if len(sent) < len(calls):
            calls, token_ids, texts = (
                [calls[place] for place in sent],
                [token_ids[place] for place in sent],
                [texts[place] for place in sent],
            )
            parts = parts and [parts[place] for place in sent]
        frame = encode_rows(self._encode, answers.max_head_bytes, calls, token_ids, texts, None, parts)
        if frame is not None:
            self._writer.emit(frame)
            return
        for place, call in enumerate(calls):
            flow = flows[call]  # ``release`` cuts the rows to size
            flow.items_sent -= 1
            flow.merge(token_ids[place], texts[place], None, parts[place] if parts else None)
            answers.hold(call, flow)

    # -- items and payloads ------------------------------------------------------------------------------------

    def send_item(self, call: int, value: Any) -> None:
        """One item of the call's stream."""
        flow = self._answers.wanted(call)
        if flow is None:
            return
        frame = encode_frame(FrameType.ITEM, call, self._answers.encode_head("ITEM", value))
        if self._writer.blocked or flow.queue or flow.items_sent >= flow.items_total:
            if len(flow.queue) >= MAX_QUEUED_ITEMS:
                self.fail(call, LimitExceeded(f"{MAX_QUEUED_ITEMS} stream items wait unread"))
                return
            flow.queue.append(frame)
            self._answers.hold(call, flow)
        else:
            flow.items_sent += 1
            self._writer.emit(frame, call)

    def send_data(self, call: int, meta: Mapping[str, Any], data: Buffer) -> None:
        """A payload, in pieces, behind what the call already holds back; ``data`` must stay unchanged until sent."""
        view = memoryview(data)
        if not view.c_contiguous:
            raise LocalProtocolError("DATA: the buffer is not contiguous")
        view = view.cast("B") if view.nbytes else memoryview(b"")  # an empty array has no view of bytes
        self.begin_data(call, meta, view.nbytes)
        if view:
            self.continue_data(call, view)

    def begin_data(
        self,
        call: int,
        meta: Mapping[str, Any],
        num_bytes: int,
        on_sent: Callable[[int], object] | None = None,
    ) -> None:
        """A payload that comes bit by bit, by ``continue_data``; until it is whole, its call ends only with ``fail``.

        Args:
            on_sent: is told of each number of its bytes that leaves, but not of what is dropped when the call ends.
        """
        flow = self._answers.wanted(call)
        if flow is None:
            return
        if flow.incoming is not None:
            raise LocalProtocolError(f"DATA: {flow.incoming.missing} bytes of the payload before are missing")
        head = self._answers.encode_head("DATA", {**meta, "nbytes": num_bytes})
        if self.peer is not None and num_bytes > self.peer.limits.max_payload_bytes:
            reason = (
                f"the payload has {num_bytes} bytes, the guest accepts {self.peer.limits.max_payload_bytes}"
            )
            self.fail(call, LimitExceeded(reason))
            return
        if len(flow.queue) >= MAX_QUEUED_ITEMS:
            self.fail(call, LimitExceeded(f"{MAX_QUEUED_ITEMS} payloads wait unread"))
            return
        payload = Payload(head, num_bytes, on_sent)
        flow.queue.append(payload)
        if num_bytes:
            flow.incoming = payload
        else:
            self._answers.hold(call, flow)

    def continue_data(self, call: int, data: memoryview) -> None:
        """The next bytes of the payload that was begun, which must stay unchanged until sent."""
        flow = self._answers.wanted(call)
        if flow is None:
            return
        payload = flow.incoming
        if payload is None or len(data) > payload.missing:
            missing = 0 if payload is None else payload.missing
            raise LocalProtocolError(f"DATA: {len(data)} bytes of a payload of which {missing} are missing")
        payload.extend(data)
        if not payload.missing:
            flow.incoming = None
        self._answers.hold(call, flow)

    # -- the end of a call -------------------------------------------------------------------------------------

    def finish(self, call: int, result: Mapping[str, Any]) -> BridgeError | None:
        """End the call well, once what it holds back has left. Harmless on a call that has ended.

        Returns:
            What it ended with instead, since the result cannot be sent.
        """
        if self.is_open(call):
            if (payload := self._answers.flows[call].incoming) is not None:
                raise LocalProtocolError(f"RESULT: {payload.missing} bytes of a payload are missing")
            try:
                self._answers.finish(call, result)
            except LocalProtocolError as error:
                unsent = InternalError(error.message)
                self.fail(call, unsent)
                return unsent
        return None

    def fail(self, call: int, error: BridgeError) -> None:
        """End the call badly, once what it holds back has left; a payload that is not all there breaks off.

        Harmless on a call that has ended.
        """
        if self.is_open(call):
            self._answers.fail(call, error)

    def break_off(self, call: int, error: BridgeError) -> None:
        """End the call badly now, without what it holds back. Harmless on a call that has ended."""
        if self.is_open(call):
            self._answers.flows[call].clear()
            self._answers.fail(call, error)

    # -- for the connection ------------------------------------------------------------------------------------

    def _release(self) -> None:
        if self._answers.sendable:
            self._answers.release()

    @property
    def has_unsent(self) -> bool:
        """Whether anything still waits for room or credit."""
        return super().has_unsent or any(
            flow.queue or flow.final is not None for flow in self._answers.flows.values()
        )

    def _open(self, peer: PeerInfo) -> None:
        super()._open(peer)
        self._answers.fit(peer.limits)

    def _enter(self, state: State) -> None:
        super()._enter(state)
        if state is State.CLOSED:
            self._answers.clear()

    # -- frames ------------------------------------------------------------------------------------------------

    def _frame_handlers(self) -> dict[FrameType, Handler]:
        return {
            **super()._frame_handlers(),
            FrameType.CALL: self._on_call,
            FrameType.CANCEL: self._on_cancel,
            FrameType.CREDIT: self._on_credit,
        }

    def _on_call(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        if call > MAX_CALL_ID or call <= self._last_call:
            raise RemoteProtocolError(
                f"CALL: number {call} after {self._last_call}; numbers rise and stay below 2^31"
            )
        if self.num_calls >= self.limits.max_calls:
            raise LimitExceeded(f"CALL: {self.num_calls} calls are open, at most {self.limits.max_calls}")
        self._last_call = call
        head = head if isinstance(head, dict) else {}
        method, params, deadline_ms = head.get("method"), head.get("params", {}), head.get("deadline_ms")
        items, num_bytes = head.get("items", 0), head.get("bytes", 0)
        if not isinstance(method, str) or not isinstance(params, dict):
            raise RemoteProtocolError("CALL: method must be a string and params a map")
        if not all(
            type(n) is int and 0 <= n <= MAX_TOTAL
            for n in (items, num_bytes, 0 if deadline_ms is None else deadline_ms)
        ):
            raise RemoteProtocolError("CALL: items, bytes and deadline_ms must be numbers from 0")
        self._answers.flows[call] = Outflow(items, num_bytes)
        if self._draining:
            self.fail(
                call,
                Unavailable("the host is going away; the call was not started", details={"started": False}),
            )
        else:
            self._events.append(CallOpened(call, method, params, deadline_ms))

    def _on_cancel(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        flow = self._answers.flows.get(call)
        if flow is not None and not flow.cancelled and self._answers.drop(call):
            self._events.append(CallCancelled(call))

    def _on_credit(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        if not (
            type(head) is list
            and len(head) >= 2
            and all(type(n) is int and 0 <= n <= MAX_TOTAL for n in head[:2])
        ):
            raise RemoteProtocolError("CREDIT: the head must be [items, bytes], both totals")
        flow = self._answers.flows.get(call)
        if flow is not None:
            flow.items_total = max(flow.items_total, head[0])
            flow.bytes_total = max(flow.bytes_total, head[1])
            if flow.queue or flow.final is not None:
                self._answers.hold(call, flow)
