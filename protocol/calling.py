"""The end that opens calls, once the connection is open: calls out, their streams in (SPEC.md §6, §7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from mlxbridge.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError, UsageError
from mlxbridge.protocol.codec import EncodeError, encode_plain
from mlxbridge.protocol.connection import Connection
from mlxbridge.protocol.error_head import read_error
from mlxbridge.protocol.events import ErrorReceived, ItemReceived, ResultReceived, TokensReceived
from mlxbridge.protocol.frames import FrameType, encode_frame
from mlxbridge.protocol.inflow import Inflow
from mlxbridge.protocol.limits import MAX_CALL_ID, MAX_TOTAL, Limits, Windows
from mlxbridge.protocol.logprobs import check_logprobs
from mlxbridge.protocol.parts import check_parts
from mlxbridge.protocol.payloads import PayloadReader
from mlxbridge.protocol.reader import Handler
from mlxbridge.protocol.state import Role, State

_CALL = FrameType.CALL
_OPEN = State.OPEN
_INT, _LIST, _STR = {int}, {list}, {str}
_OUTSIDE_PAYLOAD = ("ITEM", "RESULT")
"""An ERROR, or whatever ends a cancelled call, may break a payload off."""


class CallingConnection(Connection):
    """Opens calls and receives their streams; see ``GuestConnection``."""

    role = Role.GUEST

    def __init__(
        self,
        *,
        software: str,
        nonce: bytes,
        limits: Limits | None,
        features: frozenset[str],
        windows: Windows | None,
        allocate: Callable[[int], Any],
        piecewise: bool,
    ) -> None:
        super().__init__(software=software, nonce=nonce, limits=limits, features=features)
        self._windows = windows or Windows()
        self._piecewise = piecewise
        self._payloads = PayloadReader(self.limits.max_payload_bytes, allocate, piecewise=piecewise)
        self._calls: dict[int, Inflow] = {}
        self._last_call = 0
        self._unsent: dict[int, bytes] = {}  # CALL frames that wait for the host to keep up
        self._unsent_bytes = 0
        self._credit_due: dict[int, None] = {}

    @property
    def num_calls(self) -> int:
        """Calls that are open, cancelled ones too until the host has closed them."""
        return len(self._calls)

    @property
    def can_open(self) -> bool:
        """Whether ``open_call`` would succeed now; if not, wait for a call to end, or for a new connection."""
        return self.num_openable > 0

    @property
    def num_openable(self) -> int:
        """How many calls could be opened now, one after the other."""
        if self._state is not _OPEN or self._draining or self.peer is None:
            return 0
        return min(self.peer.limits.max_calls - len(self._calls), MAX_CALL_ID - self._last_call)

    def open_call(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        deadline_ms: int | None = None,
        windows: Windows | None = None,
    ) -> int:
        """Start a call; its number.

        Raises:
            LocalProtocolError: ``can_open`` is false.
            UsageError: an argument cannot cross the wire, ``details["field"]`` names it; nothing was sent.
            LimitExceeded: the arguments are larger than the host takes; nothing was sent.
        """
        if not self.can_open or self.peer is None:
            raise LocalProtocolError(f"cannot open a call: {self._why_not_open()}")
        flow = Inflow(windows or self._windows, piecewise=self._piecewise)
        head: dict[str, Any] = {
            "method": method,
            "params": dict(params),
            "items": flow.items_granted,
            "bytes": flow.bytes_granted,
        }
        if deadline_ms is not None:
            if type(deadline_ms) is not int or not 0 <= deadline_ms <= MAX_TOTAL:
                raise UsageError(f"{method}: deadline_ms must be a whole number from 0, not {deadline_ms!r}")
            head["deadline_ms"] = deadline_ms
        try:
            encoded = encode_plain(self._encode, head)
        except EncodeError as error:
            raise self._refuse_params(method, params, error) from error
        if len(encoded) > self.peer.limits.max_head_bytes:
            raise LimitExceeded(
                f"{method}: the arguments take {len(encoded)} bytes, the host accepts {self.peer.limits.max_head_bytes}"
            )
        self._last_call = call = self._last_call + 1
        self._calls[call] = flow
        frame = encode_frame(_CALL, call, encoded)
        if self._writer.blocked or self._unsent:
            self._unsent[call] = frame
            self._unsent_bytes += len(frame)
        else:
            self._writer.emit(frame, call)
        return call

    def _why_not_open(self) -> str:
        if self._state is not _OPEN or self.peer is None:
            return f"the connection is {self._state.value}"
        if self._draining:
            return "the host is going away"
        if self._last_call >= MAX_CALL_ID:
            return "the connection has used up its call numbers"
        return f"{len(self._calls)} calls are open, as many as the host allows"

    def _refuse_params(self, method: str, params: Mapping[str, Any], error: EncodeError) -> UsageError:
        """The error for arguments that cannot be encoded, by the name of the first that cannot."""
        for name, value in params.items():
            try:
                encode_plain(self._encode, value)
            except EncodeError as reason:
                return UsageError(f"{name}: cannot be sent ({reason})", details={"field": name})
        return UsageError(f"{method}: the arguments cannot be sent ({error})")

    def cancel(self, call: int) -> None:
        """Give the call up; its end (a RESULT or an ERROR) still comes. Harmless on a call that has ended."""
        flow = self._calls.get(call)
        if flow is None or flow.cancelled:
            return
        flow.cancelled = True
        self._credit_due.pop(call, None)
        if self._state is _OPEN and call not in self._unsent:  # else it is sent behind its CALL
            self._writer.put(encode_frame(FrameType.CANCEL, call))

    def consume(self, call: int, *, items: int = 0, num_bytes: int = 0) -> None:
        """The application took so many stream items and payload bytes of the call: give their credit back."""
        flow = self._calls.get(call)
        if flow is not None and flow.consume(items, num_bytes) and not flow.cancelled:
            self._credit_due[call] = None

    def grant(self, call: int, *, items: int) -> None:
        """Raise the call's credit for items to this total: for one who passes another's credit on, in place of ``consume``."""
        flow = self._calls.get(call)
        if flow is not None and items > flow.items_granted and not flow.cancelled:
            flow.items_granted = items
            self._credit_due[call] = None

    def _repeat_control(self) -> None:
        """Say again what control frames have said of the calls that the host knows of."""
        for call, flow in self._calls.items():
            if call in self._unsent:
                continue
            if flow.cancelled:
                self._writer.put(encode_frame(FrameType.CANCEL, call))
            else:
                self._credit_due[call] = None

    # -- what waits --------------------------------------------------------------------------------------------

    def _release(self) -> None:
        if self._credit_due:
            self._emit_credit()
        while self._unsent and not self._writer.blocked:
            call = next(iter(self._unsent))
            frame = self._unsent.pop(call)
            self._unsent_bytes -= len(frame)
            self._writer.emit(frame, call)
            if self._calls[call].cancelled:
                self._writer.put(encode_frame(FrameType.CANCEL, call))

    def _emit_credit(self) -> None:
        for call in self._credit_due:
            flow = self._calls[call]
            head = self._encode([flow.items_granted, flow.bytes_granted])
            self._writer.put(encode_frame(FrameType.CREDIT, call, head))
        self._credit_due.clear()

    @property
    def unsent_bytes(self) -> int:
        """What the CALLs take that wait for the host to keep up."""
        return self._unsent_bytes

    @property
    def has_unsent(self) -> bool:
        """Whether anything still waits for room or for the host to keep up."""
        return bool(self._unsent or self._credit_due) or super().has_unsent

    def _enter(self, state: State) -> None:
        super()._enter(state)
        if state is State.CLOSED:  # payloads that were under way give their memory back
            self._calls = {}
            self._unsent = {}
            self._unsent_bytes = 0
            self._credit_due = {}

    # -- streams -----------------------------------------------------------------------------------------------

    def _frame_handlers(self) -> dict[FrameType, Handler]:
        return {
            **super()._frame_handlers(),
            FrameType.ITEM: self._on_item,
            FrameType.TOKENS: self._on_tokens,
            FrameType.DATA: self._on_data,
            FrameType.RESULT: self._on_result,
            FrameType.ERROR: self._on_error,
        }

    def _flow(self, name: str, call: int) -> Inflow:
        """The state of a call for which a frame came; a frame before the host can know of the call is a breach too."""
        flow = self._calls.get(call)
        if flow is None or call in self._unsent:
            raise RemoteProtocolError(f"{name}: call {call} is not open")
        if flow.payload_bytes is not None and name in _OUTSIDE_PAYLOAD and not flow.cancelled:
            raise RemoteProtocolError(f"{name}: call {call} is inside a payload")
        return flow

    def _on_tokens(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        if type(head) is not list or len(head) < 3:
            raise RemoteProtocolError("TOKENS: the head must be [calls, token_ids, texts]")
        calls, token_ids, texts = head[0], head[1], head[2]
        if not (
            type(calls) is type(token_ids) is type(texts) is list
            and len(calls) == len(token_ids) == len(texts)
        ):
            raise RemoteProtocolError("TOKENS: calls, token_ids and texts must be lists of equal length")
        if not (  # column by column, at the speed of C
            _INT.issuperset(map(type, calls))
            and _LIST.issuperset(map(type, token_ids))
            and _STR.issuperset(map(type, texts))
            and _INT.issuperset(map(type, chain.from_iterable(token_ids)))
        ):
            raise RemoteProtocolError("TOKENS: a row must be a call number, a list of token ids and a text")
        flows, unsent = self._calls, self._unsent
        for number, flow in zip(calls, map(flows.get, calls), strict=True):
            if flow is None or number in unsent:
                raise RemoteProtocolError(f"TOKENS: call {number} is not open")
            flow.items_received += 1
            if flow.items_received > flow.items_granted:
                raise RemoteProtocolError(f"TOKENS: call {number} has no credit left")
        if len(head) == 3:
            self._events.append(TokensReceived(calls, token_ids, texts))
        else:
            logprobs, parts = head[3], head[4] if len(head) > 4 else None
            if logprobs is not None:
                check_logprobs(logprobs, token_ids)
            if parts is not None:
                check_parts(parts, len(calls))
            self._events.append(TokensReceived(calls, token_ids, texts, logprobs, parts))

    def _on_item(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        flow = self._flow("ITEM", call)
        flow.items_received += 1
        if flow.items_received > flow.items_granted:
            raise RemoteProtocolError(f"ITEM: call {call} has no credit left")
        self._events.append(ItemReceived(call, head))

    def _on_result(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        self._flow("RESULT", call)
        if not isinstance(head, dict):
            raise RemoteProtocolError("RESULT: the head must be a map")
        self._end(call)
        self._events.append(ResultReceived(call, head))

    def _on_error(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        self._flow("ERROR", call)
        if not isinstance(head, dict):
            raise RemoteProtocolError("ERROR: the head must be a map")
        self._end(call)
        self._events.append(ErrorReceived(call, read_error(head)))

    def _end(self, call: int) -> None:
        del self._calls[call]
        self._credit_due.pop(call, None)
        if self._writer.kept is not None:
            self._writer.kept.drop_until(call)  # maybe megabytes, and the host has them

    def _on_data(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        raise NotImplementedError  # pieces are read by begin_piece and end_piece

    def begin_piece(self, call: int, flags: int, head: Any, size: int) -> memoryview:
        """A DATA frame begins (``reader.Receiver``)."""
        return self._payloads.begin(call, self._flow("DATA", call), flags, head, size)

    def end_piece(self) -> None:
        """Its payload is whole."""
        call = self._payloads.call
        flow = self._calls[call]
        event = self._payloads.end(flow)
        if event is not None:
            self._events.append(event)
        elif flow.grant_bytes() and not flow.cancelled:
            self._credit_due[call] = None
