"""The end that opens calls: a guest library, or the host's front towards a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from mlxbridge.errors import (
    AuthenticationError,
    BridgeError,
    Gone,
    LimitExceeded,
    LocalProtocolError,
    RemoteProtocolError,
    UsageError,
)
from mlxbridge.protocol.codec import Buffer, EncodeError, decode, encode_plain
from mlxbridge.protocol.connection import Connection
from mlxbridge.protocol.error_head import read_error
from mlxbridge.protocol.events import (
    DataReceived,
    ErrorReceived,
    ItemReceived,
    PeerInfo,
    PieceReceived,
    Ready,
    ResultReceived,
    Resumed,
    TokensReceived,
)
from mlxbridge.protocol.flow import Inflow
from mlxbridge.protocol.frames import CHECKED_HEADER_BYTES, HEADER_BYTES, Flag, FrameType, encode_frame
from mlxbridge.protocol.handshake import (
    CHECKSUM,
    RESUME,
    Resumption,
    Token,
    check_proof,
    guest_auth,
    guest_hello,
    guest_proof,
    host_proof,
    host_version,
    peer_info,
    read_fields,
)
from mlxbridge.protocol.kept import Kept
from mlxbridge.protocol.limits import MAX_CALL_ID, MAX_TOTAL, Limits, Windows
from mlxbridge.protocol.parts import check_parts
from mlxbridge.protocol.reader import Handler
from mlxbridge.protocol.state import Role, State

_MORE = int(Flag.MORE)
_CALL = FrameType.CALL
_OPEN = State.OPEN
_INT, _LIST, _STR, _BYTES = {int}, {list}, {str}, {bytes}
_OUTSIDE_PAYLOAD = ("ITEM", "RESULT")
"""An ERROR, or whatever ends a cancelled call, may break a payload off."""

TimeLeft = Callable[[int], int | None]
"""The milliseconds that a call still has, by its number; None for no limit."""


class GuestConnection(Connection):
    """Opens calls and receives their streams. ``data_to_send()`` has the HELLO from the start.

    Args:
        token: proves this guest to the host, and demands the same of it; None for a host that wants none.
        passive: this end reads only while a call is open (a blocking client).
        windows: the credit each call starts with.
        allocate: gives writable memory of so many bytes for a payload, or for a piece.
        piecewise: payloads come as ``PieceReceived``, for one who passes them on; ``consume`` each piece when it has left.
    """

    role = Role.GUEST

    def __init__(
        self,
        *,
        software: str,
        nonce: bytes,
        limits: Limits | None = None,
        features: frozenset[str] = frozenset(),
        token: Token | None = None,
        passive: bool = False,
        windows: Windows | None = None,
        allocate: Callable[[int], Any] = bytearray,
        piecewise: bool = False,
    ) -> None:
        super().__init__(software=software, nonce=nonce, limits=limits, features=features)
        self._token = token
        self._windows = windows or Windows()
        self._allocate = allocate
        self._piecewise = piecewise
        self._calls: dict[int, Inflow] = {}
        self._last_call = 0
        self._unsent: dict[int, bytes] = {}  # CALL frames that wait for the host to keep up
        self._unsent_bytes = 0
        self._credit_due: dict[int, None] = {}
        self._piece_call = 0
        self._piece_size = 0
        self._passive = passive
        self._resumption: Resumption | None = None
        self._is_coming_back = False
        self._time_left: TimeLeft = lambda call: None
        self._say_hello()

    def _say_hello(self, resume: Mapping[str, Any] | None = None) -> None:
        hello = guest_hello(
            software=self._software,
            limits=self.limits,
            features=self._features,
            nonce=self._nonce,
            identity=self._token.identity if self._token else None,
            passive=self._passive,
            resume=resume,
        )
        self._own_hello = self._encode(hello)
        self._say_magic()
        self._put(encode_frame(FrameType.HELLO, 0, self._own_hello))

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
        if self._blocked or self._unsent:
            self._unsent[call] = frame
            self._unsent_bytes += len(frame)
        else:
            self._emit(frame, call)
        return call

    def cancel(self, call: int) -> None:
        """Give the call up; its end (a RESULT or an ERROR) still comes. Harmless on a call that has ended."""
        flow = self._calls.get(call)
        if flow is None or flow.cancelled:
            return
        flow.cancelled = True
        self._credit_due.pop(call, None)
        if self._state is _OPEN and call not in self._unsent:  # else it is sent behind its CALL
            self._put(encode_frame(FrameType.CANCEL, call))

    def leave(self, error: BridgeError) -> None:
        """End the connection, and tell the host that nobody will come back for its calls."""
        if self._state is _OPEN and not self._paused:
            self._put(self._goaway_frame(error, 0))
            self._lingering = bool(self._calls)  # a host that is just writing would find the link broken
        self.close()

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

    # -- coming back -------------------------------------------------------------------------------------------

    @property
    def grace_ms(self) -> int | None:
        """How long the host keeps the calls of a connection that was cut; None if it does not."""
        return None if self._resumption is None else self._resumption.grace_ms

    def come_back(self, nonce: bytes, time_left: TimeLeft) -> None:
        """Go on over a new transport: ``data_to_send()`` has another HELLO, and ``Resumed`` tells that nothing is lost.

        If the host has nothing left of the calls, the connection is closed with ``Gone``; if the handshake fails for
        another reason, it is ``cut`` again: a byte that was changed under way looks like a wrong token, for one.

        Args:
            nonce: 32 random bytes, fresh again.
            time_left: for CALLs that have to be sent once more.

        Raises:
            LocalProtocolError: the connection is not ``cut``.
        """
        resumption = self._resumption
        if self._state is not State.CUT or resumption is None:
            raise LocalProtocolError(f"the connection is {self._state.value}, not cut")
        self._is_coming_back = True
        self._nonce, self._time_left = nonce, time_left
        received = self.num_received
        self._begin_transport(received)
        self._say_hello({"link": resumption.link, "secret": resumption.secret, "received": received})

    def _resume(self, head: Any) -> None:
        """The host goes on: send what it has missed, and what control frames have said before."""
        (received,) = read_fields(head, "READY: resumed", received=int)
        missed = self._missed_after(received)
        if missed is None:
            raise RemoteProtocolError(f"READY: the host has got {received} message frames, and cannot have")
        self._is_coming_back = False
        self._open(self._hello_peer)
        for call, frame in missed:
            assert frame is not None  # a guest sends no payloads
            self._put(self._renew(call, frame))
        for call, flow in self._calls.items():
            if call in self._unsent:
                continue
            if flow.cancelled:
                self._put(encode_frame(FrameType.CANCEL, call))
            else:
                self._credit_due[call] = None
        self._events.append(Resumed())

    def _renew(self, call: int, frame: Buffer) -> Buffer:
        """A CALL that is sent again, with the time that it still has."""
        left_ms = self._time_left(call)
        if left_ms is None:
            return frame
        return encode_frame(
            _CALL, call, self._encode({**decode(frame[HEADER_BYTES:]), "deadline_ms": left_ms})
        )

    def _refuse(self, breach: BridgeError) -> None:
        if self._is_coming_back and not isinstance(breach, Gone):
            self._be_cut(breach)
        else:
            super()._refuse(breach)

    def _on_goaway(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        error = read_error(head if isinstance(head, dict) else {})
        if self._is_coming_back and not isinstance(error, Gone):
            self._be_cut(error)
        else:
            super()._on_goaway(call, flags, head, payload)

    # -- sending -----------------------------------------------------------------------------------------------

    def _release(self) -> None:
        if self._credit_due:
            self._emit_credit()
        while self._unsent and not self._blocked:
            call = next(iter(self._unsent))
            frame = self._unsent.pop(call)
            self._unsent_bytes -= len(frame)
            self._emit(frame, call)
            if self._calls[call].cancelled:
                self._put(encode_frame(FrameType.CANCEL, call))

    def _emit_credit(self) -> None:
        for call in self._credit_due:
            flow = self._calls[call]
            head = self._encode([flow.items_granted, flow.bytes_granted])
            self._put(encode_frame(FrameType.CREDIT, call, head))
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

    # -- handshake ---------------------------------------------------------------------------------------------

    def _frame_handlers(self) -> dict[FrameType, Handler]:
        return {
            **super()._frame_handlers(),
            FrameType.HELLO: self._on_hello,
            FrameType.READY: self._on_ready,
            FrameType.ITEM: self._on_item,
            FrameType.TOKENS: self._on_tokens,
            FrameType.DATA: self._on_data,
            FrameType.RESULT: self._on_result,
            FrameType.ERROR: self._on_error,
        }

    def _on_hello(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        if not isinstance(head, dict):
            raise RemoteProtocolError("HELLO: the head must be a map")
        self._hello_peer: PeerInfo = peer_info(head, host_version(head))
        if CHECKSUM in self._features - self._hello_peer.features:
            raise RemoteProtocolError("HELLO: the host gives no checksums, though this guest needs them")
        self._agree(self._hello_peer.features, self._own_hello + self._reader.hello)
        if guest_auth(head, self._token) and self._token is not None:
            secret, ours, theirs = self._token.secret, self._own_hello, self._reader.hello
            if not check_proof(host_proof(secret, ours, theirs), payload):
                raise AuthenticationError(
                    f"host and guest hold different tokens for {self._token.identity!r}: the host could not prove that it knows this one"
                )
            self._put(encode_frame(FrameType.AUTH, 0, payload=guest_proof(secret, ours, theirs)))
        self._enter(State.READY)

    def _on_ready(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        head = head if isinstance(head, dict) else {}
        if self._is_coming_back:
            if "resumed" not in head:  # it let a new guest in
                raise Gone("the host that answers now keeps no calls")
            self._resume(head["resumed"])
            return
        identity = head.get("identity")
        self._resumption = Resumption.from_wire(head.get("resume")) if RESUME in self._features else None
        if self._resumption is not None:
            self._kept = Kept()
        self._open(self._hello_peer)
        self._events.append(Ready(self._hello_peer, identity if isinstance(identity, str) else None))

    # -- streams -----------------------------------------------------------------------------------------------

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
                _check_logprobs(logprobs, token_ids)
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
        if self._kept is not None:
            self._kept.drop_until(call)  # maybe megabytes, and the host has them

    # -- payloads ----------------------------------------------------------------------------------------------

    def _on_data(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        raise NotImplementedError  # pieces are read by begin_piece and end_piece

    def begin_piece(self, call: int, flags: int, head: Any, size: int) -> memoryview:
        """A DATA frame begins: where its payload goes, with the rest of a payload of several."""
        flow = self._flow("DATA", call)
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
        self._piece_call, self._piece_size = call, size
        if self._piecewise:
            flow.payload = self._memory(size, beside=CHECKED_HEADER_BYTES)
            return flow.payload
        return flow.payload[flow.payload_filled :]

    def _begin_payload(self, head: Any) -> int:
        size = head.get("nbytes") if isinstance(head, dict) else None
        if type(size) is not int or size < 0:
            raise RemoteProtocolError("DATA: a payload's first piece needs nbytes in its head")
        if size > self.limits.max_payload_bytes:
            raise LimitExceeded(f"DATA: payload of {size} bytes, at most {self.limits.max_payload_bytes}")
        return size

    def _memory(self, size: int, beside: int = 0) -> memoryview:
        """Room for a payload or a piece, and beside it for the header that follows."""
        if not size:
            return memoryview(b"")  # an empty array has no view of bytes
        try:
            return memoryview(self._allocate(size + beside)).cast("B")
        except MemoryError as error:
            raise LimitExceeded(f"DATA: no memory for a payload of {size} bytes") from error

    def end_piece(self) -> None:
        """Its payload is whole: tell of it, or of all of which it was the last."""
        call, size = self._piece_call, self._piece_size
        flow = self._calls[call]
        flow.payload_filled += size
        whole = flow.payload_filled == flow.payload_bytes
        if self._piecewise:
            first = flow.payload_filled == size
            self._events.append(PieceReceived(call, flow.meta if first else None, flow.payload[:size]))
        elif whole:
            self._events.append(DataReceived(call, flow.meta, flow.payload))
        elif flow.grant_bytes() and not flow.cancelled:
            self._credit_due[call] = None
        if whole:
            flow.payload_bytes, flow.payload_filled, flow.meta = None, 0, {}
        if whole or self._piecewise:
            flow.payload = memoryview(b"")


def _check_logprobs(column: Any, token_ids: list[list[int]]) -> None:
    if type(column) is not list or len(column) != len(token_ids):
        raise RemoteProtocolError("TOKENS: logprobs must be a list as long as the others")
    for row, ids in zip(column, token_ids, strict=True):
        if row is not None and not (
            type(row) is list and len(row) == len(ids) and _BYTES.issuperset(map(type, row))
        ):
            raise RemoteProtocolError("TOKENS: a row's logprobs must be nil or one byte string a token")
