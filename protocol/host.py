"""The end that answers calls: the host's front towards a guest, a worker towards the front."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlxbridge.errors import (
    AuthenticationError,
    BridgeError,
    ConnectionLost,
    Gone,
    InternalError,
    LimitExceeded,
    LocalProtocolError,
    RemoteProtocolError,
    Unavailable,
)
from mlxbridge.protocol.codec import Buffer, EncodeError, encode_plain, make_encoder
from mlxbridge.protocol.connection import Connection
from mlxbridge.protocol.error_head import encode_error
from mlxbridge.protocol.events import CallCancelled, CallOpened, PeerInfo, Ready, ResumeAsked, Resumed
from mlxbridge.protocol.flow import Delta, HeldRow, Outflow, Payload
from mlxbridge.protocol.frames import Flag, FrameType, encode_frame, pack_header
from mlxbridge.protocol.handshake import (
    AUTH_HMAC,
    AUTH_NONE,
    DEFAULT_IDENTITY,
    MAX_IDENTITY_CHARS,
    RESUME,
    Resumption,
    check_proof,
    choose_version,
    decoy_secret,
    guest_proof,
    host_hello,
    host_proof,
    peer_info,
    read_fields,
)
from mlxbridge.protocol.kept import Kept, KeptPool
from mlxbridge.protocol.limits import (
    MAX_ARRAY_ITEMS,
    MAX_CALL_ID,
    MAX_CONNECTION_LOGPROB_BYTES,
    MAX_HELD_LOGPROB_BYTES,
    MAX_QUEUED_ITEMS,
    MAX_TOTAL,
    SHARED_PIECE_BYTES,
    Limits,
)
from mlxbridge.protocol.parts import Part, max_bytes
from mlxbridge.protocol.reader import Handler
from mlxbridge.protocol.state import Role, State

_MORE = int(Flag.MORE)
_DATA, _RESULT, _TOKENS = FrameType.DATA, FrameType.RESULT, FrameType.TOKENS
_COLUMNS_BYTES = 32
"""The list headers of a TOKENS head, at most."""

_NOT_KEPT = Gone("the link broke under a payload, which is not kept", details={"repeatable": True})
_NO_ROWS = encode_frame(FrameType.TOKENS, 0, make_encoder()([[], [], []]))
"""A message frame that says nothing."""


class HostConnection(Connection):
    """Receives calls and answers each exactly once, with ``finish`` or ``fail``.

    Args:
        tokens: secret by guest name; None lets everyone in.
        resumption: with what a guest can come back, if the link breaks; None: it cannot.
        kept_pool: bounds what is kept for the guests of many connections; None: this one is alone.
    """

    role = Role.HOST

    def __init__(
        self,
        *,
        software: str,
        nonce: bytes,
        limits: Limits | None = None,
        features: frozenset[str] = frozenset(),
        tokens: Mapping[str, bytes] | None = None,
        resumption: Resumption | None = None,
        kept_pool: KeptPool | None = None,
    ) -> None:
        features |= frozenset() if resumption is None else {RESUME}
        super().__init__(software=software, nonce=nonce, limits=limits, features=features)
        self._tokens = tokens
        self._resumption = resumption
        self._kept_pool = kept_pool
        self._claim: tuple[bytes, bytes, int] | None = (
            None  # on another connection, by a guest that comes back
        )
        self._calls: dict[int, Outflow] = {}
        self._last_call = 0
        self._sendable: dict[int, None] = {}  # calls that hold something back and have the credit for it
        self._identity: str | None = None
        self._known = False  # whether ``_identity`` has a token here
        self._expected_proof = b""
        self._max_peer_head = 0
        self._max_peer_piece = 0

    @property
    def num_calls(self) -> int:
        """Calls whose end has not left yet."""
        return len(self._calls)

    def is_open(self, call: int) -> bool:
        """Whether the call still wants an answer."""
        flow = self._calls.get(call)
        return flow is not None and flow.final is None

    def name_call(self, call: int, request_id: str) -> None:
        """Have the end of a call tell the guest what this host calls it (SPEC.md §6)."""
        flow = self._calls.get(call)
        if flow is not None:
            flow.request_id = request_id

    def name_of(self, call: int) -> str | None:
        """What ``name_call`` has called it; None once it has ended."""
        flow = self._calls.get(call)
        return None if flow is None else flow.request_id

    def num_held(self, call: int) -> int:
        """Items and payloads of a call that have not left; 0 if it has ended."""
        flow = self._calls.get(call)
        return 0 if flow is None else len(flow.queue)

    def items_granted(self, call: int) -> int:
        """The guest's credit for items of a call, in all since it began; 0 once nothing more is wanted of it."""
        flow = self._calls.get(call)
        return 0 if flow is None or flow.cancelled or flow.final is not None else flow.items_total

    @property
    def held_payload_bytes(self) -> int:
        """What has not left of the payloads of all calls, whether it has come or not."""
        return sum(
            part.unsent for flow in self._calls.values() for part in flow.queue if isinstance(part, Payload)
        )

    @property
    def held_bytes(self) -> int:
        """About what all that takes that the guest has not got, or may have missed."""
        return self.num_kept_bytes + sum(flow.held_bytes for flow in self._calls.values())

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
            self._hold_rows(calls, token_ids, texts, logprobs, parts or [None] * len(calls))
            return
        flows = self._calls
        blocked = self._blocked
        sent: list[int] = []  # places in the columns
        for place, (call, ids, text) in enumerate(zip(calls, token_ids, texts, strict=True)):
            flow = flows.get(call)
            if flow is None or flow.cancelled or flow.final is not None:
                continue
            if blocked or flow.queue or flow.items_sent >= flow.items_total:
                flow.merge(ids, text, None, parts[place] if parts else None)
                self._hold(call, flow)
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
        if not self._emit_tokens(calls, token_ids, texts, None, parts):
            for place, call in enumerate(calls):
                flow = flows[call]  # _release cuts the rows to size
                flow.items_sent -= 1
                flow.merge(token_ids[place], texts[place], None, parts[place] if parts else None)
                self._hold(call, flow)

    def send_item(self, call: int, value: Any) -> None:
        """One item of the call's stream."""
        flow = self._calls.get(call)
        if flow is None or flow.cancelled or flow.final is not None:
            return
        frame = encode_frame(FrameType.ITEM, call, self._encode_head("ITEM", value))
        if self._blocked or flow.queue or flow.items_sent >= flow.items_total:
            if len(flow.queue) >= MAX_QUEUED_ITEMS:
                self.fail(call, LimitExceeded(f"{MAX_QUEUED_ITEMS} stream items wait unread"))
                return
            flow.queue.append(frame)
            self._hold(call, flow)
        else:
            flow.items_sent += 1
            self._emit(frame, call)

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
        flow = self._calls.get(call)
        if flow is None or flow.cancelled or flow.final is not None:
            return
        if flow.incoming is not None:
            raise LocalProtocolError(f"DATA: {flow.incoming.missing} bytes of the payload before are missing")
        head = self._encode_head("DATA", {**meta, "nbytes": num_bytes})
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
            self._hold(call, flow)

    def continue_data(self, call: int, data: memoryview) -> None:
        """The next bytes of the payload that was begun, which must stay unchanged until sent."""
        flow = self._calls.get(call)
        if flow is None or flow.cancelled or flow.final is not None:
            return
        payload = flow.incoming
        if payload is None or len(data) > payload.missing:
            missing = 0 if payload is None else payload.missing
            raise LocalProtocolError(f"DATA: {len(data)} bytes of a payload of which {missing} are missing")
        payload.extend(data)
        if not payload.missing:
            flow.incoming = None
        self._hold(call, flow)

    def finish(self, call: int, result: Mapping[str, Any]) -> BridgeError | None:
        """End the call well, once what it holds back has left. Harmless on a call that has ended.

        Returns:
            What it ended with instead, since the result cannot be sent.
        """
        if self.is_open(call):
            if (payload := self._calls[call].incoming) is not None:
                raise LocalProtocolError(f"RESULT: {payload.missing} bytes of a payload are missing")
            try:
                head = self._encode_head("RESULT", {**result, **self._named(call)})
            except LocalProtocolError as error:
                unsent = InternalError(error.message)
                self.fail(call, unsent)
                return unsent
            self._end(call, encode_frame(_RESULT, call, head))
        return None

    def fail(self, call: int, error: BridgeError) -> None:
        """End the call badly, once what it holds back has left; a payload that is not all there breaks off.

        Harmless on a call that has ended.
        """
        if self.is_open(call):
            self._calls[call].break_off()
            self._end(call, self._error_frame(call, error))

    def break_off(self, call: int, error: BridgeError) -> None:
        """End the call badly now, without what it holds back. Harmless on a call that has ended."""
        if self.is_open(call):
            self._calls[call].clear()
            self.fail(call, error)

    def welcome_back(self, fresh: HostConnection, received: int) -> bool:
        """Go on where the guest has come back, which ``fresh`` has told by ``ResumeAsked``; its transport is this one's then.

        A payload that the guest has not got whole ends its call with ``Gone``.

        Args:
            received: the message frames that the guest has got.

        Returns:
            False, with nothing changed, if what it has missed is not there any more, or the connection is closed.
        """
        missed = None if self._state is State.CLOSED else self._missed_after(received)
        if missed is None or self._kept is None:
            return False
        self._lose(ConnectionLost("the guest has come back over another link"))
        broken = {call for call, frame in missed if frame is None}
        # What is left out is counted all the same, and so something is sent in its place.
        missed = [(call, _NO_ROWS if call in broken else frame) for call, frame in missed]
        self._kept.replace(missed)
        self._take_over(fresh)
        for _, frame in missed:
            assert frame is not None
            self._put(frame)
        for call in broken:
            flow = self._calls.setdefault(call, Outflow(0, 0))
            flow.clear()
            flow.final = self._error_frame(call, _NOT_KEPT)
        for call, flow in self._calls.items():
            self._hold(call, flow)
        self._events.append(Resumed())
        return True

    def go_away(self, reason: str, drain_ms: int) -> None:
        """Take no more calls; those that are open have ``drain_ms`` left. The owner closes when they are done.

        During the handshake this closes the connection.
        """
        if self.handshaking:
            self.close(Unavailable(reason))
        elif not self._draining and self._state is State.OPEN:
            self._draining = True
            self._put(self._goaway_frame(Unavailable(reason), drain_ms))

    # -- sending -----------------------------------------------------------------------------------------------

    def _error_frame(self, call: int, error: BridgeError) -> bytes:
        head = encode_error(self._encode, error, self._max_peer_head, **self._named(call))
        return encode_frame(FrameType.ERROR, call, head)

    def _named(self, call: int) -> dict[str, str]:
        request_id = self.name_of(call)
        return {} if request_id is None else {"request_id": request_id}

    def _encode_head(self, name: str, value: Any) -> bytes:
        try:
            head = encode_plain(self._encode, value)
        except EncodeError as error:
            raise LocalProtocolError(f"{name}: the head cannot be encoded ({error})") from error
        if len(head) > self._max_peer_head:
            raise LocalProtocolError(
                f"{name}: the head has {len(head)} bytes, the guest accepts {self._max_peer_head}"
            )
        return head

    def _hold_rows(
        self,
        calls: Sequence[int],
        token_ids: Sequence[list[int]],
        texts: Sequence[str],
        logprobs: Sequence[list[bytes] | None],
        parts: Sequence[list[Part] | None],
    ) -> None:
        """Rows of which some have logprobs. They are rare and large: all wait for ``_release``, which knows sizes."""
        held = sum(flow.logprob_bytes for flow in self._calls.values())
        for call, ids, text, data, others in zip(calls, token_ids, texts, logprobs, parts, strict=True):
            flow = self._calls.get(call)
            if flow is None or flow.cancelled or flow.final is not None:
                continue
            if data is not None and len(data) != len(ids):
                self.fail(call, InternalError(f"{len(ids)} tokens have {len(data)} logprobs"))
                continue
            size = sum(map(len, data or ()))
            is_held_back = self._blocked or flow.items_sent >= flow.items_total
            if size and is_held_back and held + size > MAX_CONNECTION_LOGPROB_BYTES:
                self.fail(call, LimitExceeded(f"{held} bytes of logprobs wait unread on this connection"))
                continue
            held += size
            flow.merge(ids, text, data, others)
            if flow.logprob_bytes > MAX_HELD_LOGPROB_BYTES:
                self.fail(call, LimitExceeded(f"{flow.logprob_bytes} bytes of logprobs wait unread"))
            self._hold(call, flow)

    def _emit_tokens(
        self,
        calls: Sequence[int],
        token_ids: Sequence[list[int]],
        texts: Sequence[str],
        logprobs: Sequence[list[bytes] | None] | None = None,
        parts: Sequence[list[Part] | None] | None = None,
    ) -> bool:
        """One TOKENS frame; False if the guest would not take it, or if a row cannot be encoded."""
        columns: tuple[Any, ...] = (calls, token_ids, texts)
        if parts is not None:
            columns = (*columns, logprobs, parts)
        elif logprobs is not None:
            columns = (*columns, logprobs)
        try:
            head = self._encode(columns)
        except (TypeError, ValueError, OverflowError):
            return False
        # A collection over the bound takes a head over the bound: the common case is one comparison.
        if len(head) > MAX_ARRAY_ITEMS and (
            len(head) > self._max_peer_head
            or max(len(calls), *map(len, token_ids), *(len(row or ()) for row in parts or ()))
            > MAX_ARRAY_ITEMS
        ):
            return False
        self._emit(encode_frame(_TOKENS, 0, head))
        return True

    def _hold(self, call: int, flow: Outflow) -> None:
        if flow.can_send():
            self._sendable[call] = None

    def _end(self, call: int, final: bytes) -> None:
        flow = self._calls[call]
        flow.final = final
        if self._blocked or flow.queue:
            self._hold(call, flow)
        else:
            self._emit_final(call, final)

    def _emit_final(self, call: int, final: bytes) -> None:
        del self._calls[call]
        self._sendable.pop(call, None)
        self._emit(final, call)

    def _release(self) -> None:
        """What is held back and has credit: deltas first, in one frame; then, call by call, the rest, with at most one piece."""
        if not self._sendable or self._blocked:
            return
        self._release_deltas()
        for call in list(self._sendable):
            if self._blocked:
                return
            flow = self._calls[call]
            while flow.queue and flow.can_send() and not self._blocked:
                first = flow.queue[0]
                if isinstance(first, Payload):
                    self._release_piece(call, flow, first)
                    return
                if isinstance(first, Delta):
                    break  # it may share a frame with others: the owner calls again
                flow.queue.popleft()
                flow.items_sent += 1
                self._emit(first, call)
            if not flow.can_send():
                del self._sendable[call]
            elif not flow.queue and flow.final is not None and not self._blocked:
                self._emit_final(call, flow.final)

    def _release_deltas(self) -> None:
        room = left = self._max_peer_head - _COLUMNS_BYTES
        rows: list[tuple[int, HeldRow]] = []
        for call in list(self._sendable):
            flow = self._calls[call]
            delta = flow.first_delta()
            if delta is None:
                continue
            size = delta.max_bytes()
            if rows and (size > left or len(rows) == MAX_ARRAY_ITEMS):
                self._emit_rows(rows)
                rows, left = [], room
                if self._blocked:
                    return
            rows.append((call, flow.take(delta, room)))
            left -= size
        if rows:
            self._emit_rows(rows)

    def _emit_rows(self, rows: list[tuple[int, HeldRow]]) -> None:
        """Rows that fit one frame; a row that cannot be encoded ends its call, and no other."""
        if self._emit_held(rows):
            return
        for row in rows:
            call, held = row
            if self._blocked:
                self._calls[call].put_back(held)
            elif not self._emit_held([row]):
                self._calls[call].clear()
                self.fail(call, self._why_not_emitted(held))

    def _emit_held(self, rows: list[tuple[int, HeldRow]]) -> bool:
        held = [row for _, row in rows]
        logprobs = [row.logprobs for row in held]
        parts = [row.parts for row in held]
        return self._emit_tokens(
            [call for call, _ in rows],
            [row.ids for row in held],
            [row.text for row in held],
            logprobs if any(logprobs) else None,
            parts if any(parts) else None,
        )

    def _why_not_emitted(self, row: HeldRow) -> BridgeError:
        if row.parts and max(map(max_bytes, row.parts)) > self._max_peer_head:
            return LimitExceeded(
                f"a tool call may take more than the {self._max_peer_head} bytes that the guest accepts"
            )
        return InternalError("the tokens cannot be encoded")

    def _release_piece(self, call: int, flow: Outflow, payload: Payload) -> None:
        most = (
            self._max_peer_piece if len(self._calls) == 1 else min(self._max_peer_piece, SHARED_PIECE_BYTES)
        )
        size = min(payload.held, most, flow.bytes_total - flow.bytes_sent)
        head = b"" if payload.sent else payload.head
        flags = _MORE if size < payload.unsent else 0
        header = pack_header(len(head) + size, len(head), call, _DATA, flags, 0)
        self._emit(header + head, call, payload.take(size))
        flow.bytes_sent += size
        if not flags:
            flow.queue.popleft()
        del self._sendable[call]  # to the end of the line, so that payloads of several calls take turns
        self._hold(call, flow)
        if payload.on_sent is not None:
            payload.on_sent(size)

    @property
    def has_unsent(self) -> bool:
        """Whether anything still waits for room or credit."""
        return super().has_unsent or any(
            flow.queue or flow.final is not None for flow in self._calls.values()
        )

    def _enter(self, state: State) -> None:
        super()._enter(state)
        if state is State.CLOSED:  # answers that come too late have nowhere to go
            self._calls = {}
            self._sendable = {}

    # -- handshake ---------------------------------------------------------------------------------------------

    def _frame_handlers(self) -> dict[FrameType, Handler]:
        return {
            **super()._frame_handlers(),
            FrameType.HELLO: self._on_hello,
            FrameType.AUTH: self._on_auth,
            FrameType.CALL: self._on_call,
            FrameType.CANCEL: self._on_cancel,
            FrameType.CREDIT: self._on_credit,
        }

    def _on_hello(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        if not isinstance(head, dict):
            raise RemoteProtocolError("HELLO: the head must be a map")
        version = choose_version(head)
        self._hello_peer: PeerInfo = peer_info(head, version)
        if self._resumption is not None and (claim := head.get("resume")) is not None:
            link, secret, received = read_fields(
                claim, "HELLO: resume", link=bytes, secret=bytes, received=int
            )
            self._claim = link, secret, received
        hello = self._encode(
            host_hello(
                version=version,
                software=self._software,
                limits=self.limits,
                features=self._features,
                nonce=self._nonce,
                auth=AUTH_NONE if self._tokens is None else AUTH_HMAC,
            )
        )
        self._say_magic()
        if self._tokens is None:
            self._put(encode_frame(FrameType.HELLO, 0, hello))
            self._agree(self._hello_peer.features, self._reader.hello + hello)
            self._let_in()
            return
        identity = head.get("identity", DEFAULT_IDENTITY)
        if not isinstance(identity, str) or len(identity) > MAX_IDENTITY_CHARS:
            raise RemoteProtocolError(
                f"HELLO: identity must be a string of at most {MAX_IDENTITY_CHARS} characters"
            )
        secret = self._tokens.get(identity)
        self._known = secret is not None
        if (
            secret is None
        ):  # an unknown name gets a proof too, so that names cannot be probed; it is refused later
            secret = decoy_secret(self._tokens, identity)
        self._identity = identity
        self._expected_proof = guest_proof(secret, self._reader.hello, hello)
        self._put(encode_frame(FrameType.HELLO, 0, hello, host_proof(secret, self._reader.hello, hello)))
        self._agree(self._hello_peer.features, self._reader.hello + hello)
        self._enter(State.AUTH)

    def _on_auth(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        if not (check_proof(self._expected_proof, payload) and self._known):
            raise AuthenticationError("the token is not the one this host knows for that name")
        self._let_in()

    def _let_in(self) -> None:
        if self._claim is None:
            self._welcome()
        else:
            self._enter(State.READY)  # in which a guest sends nothing, until its claim has been looked at
            self._events.append(ResumeAsked(*self._claim, self._identity))

    def _welcome(self) -> None:
        agreed = None
        if self._resumption is not None and RESUME in self._hello_peer.features:
            self._kept, agreed = Kept(self._kept_pool), {"resume": self._resumption.to_wire()}
        self._begin(agreed or {})
        self._events.append(Ready(self._hello_peer, self._identity))

    def _begin(self, more: Mapping[str, Any]) -> None:
        head = {"identity": self._identity} if self._identity is not None else {}
        self._put(encode_frame(FrameType.READY, 0, self._encode({**head, **more})))
        self._open(self._hello_peer)
        self._max_peer_head = self._hello_peer.limits.max_head_bytes
        self._max_peer_piece = self._hello_peer.limits.max_piece_bytes

    def _take_over(self, fresh: HostConnection) -> None:
        """Use the transport of another connection, whose handshake is over but for READY."""
        self._begin_transport(self.num_received)
        self._reader, fresh._reader = fresh._reader, self._reader
        self._reader.hand_over(self)
        self._out, fresh._out, self._paused = fresh._out, [], fresh._paused
        self._magic_sent = True
        self._checksum = fresh._checksum
        self._hello_peer = fresh._hello_peer
        fresh._enter(State.CLOSED)
        self._begin({"resumed": {"received": self.num_received}})

    # -- calls -------------------------------------------------------------------------------------------------

    def _on_call(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        if call > MAX_CALL_ID or call <= self._last_call:
            raise RemoteProtocolError(
                f"CALL: number {call} after {self._last_call}; numbers rise and stay below 2^31"
            )
        if len(self._calls) >= self.limits.max_calls:
            raise LimitExceeded(f"CALL: {len(self._calls)} calls are open, at most {self.limits.max_calls}")
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
        self._calls[call] = Outflow(items, num_bytes)
        if self._draining:
            self.fail(
                call,
                Unavailable("the host is going away; the call was not started", details={"started": False}),
            )
        else:
            self._events.append(CallOpened(call, method, params, deadline_ms))

    def _on_cancel(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        flow = self._calls.get(call)
        if flow is None or flow.cancelled:
            return
        flow.drop()
        if flow.final is None:
            self._sendable.pop(call, None)
            self._events.append(CallCancelled(call))
        else:
            self._hold(call, flow)

    def _on_credit(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        if not (
            type(head) is list
            and len(head) >= 2
            and all(type(n) is int and 0 <= n <= MAX_TOTAL for n in head[:2])
        ):
            raise RemoteProtocolError("CREDIT: the head must be [items, bytes], both totals")
        flow = self._calls.get(call)
        if flow is not None:
            flow.items_total = max(flow.items_total, head[0])
            flow.bytes_total = max(flow.bytes_total, head[1])
            if flow.queue or flow.final is not None:
                self._hold(call, flow)
