"""What both ends of a connection share: frames in, frames out, the handshake's frame, the end (SPEC.md §3–§8).

Theory of operation. A connection does no I/O and reads no clock. Its owner reads bytes into ``receive_buffer()`` and
says so with ``received(count)``; takes ``events()``; calls methods such as ``open_call``; then writes what
``data_to_send()`` gives, in order, and closes the transport once ``closed`` is true and everything is written.

Receiving never raises for what a peer sends: a breach gives a ``Closed`` event, and ``data_to_send()`` gives the last
words, a GOAWAY that says why. Calling a method out of turn raises ``LocalProtocolError``.

Nothing here grows with a slow or hostile peer. Message frames are encoded at once while the peer keeps up, and held in
their call's ``Outflow`` otherwise; control frames are kept as state (one PONG, one ACK, one CREDIT a call) and encoded
when they leave.

An owner that is told to pause (its transport is full) calls ``pause()``; ``data_to_send`` then gives nothing.

Where both sides agreed to it, the end of the transport is not the end of the connection: it is *cut*, holds all back that
the peer may have missed, and goes on over another transport (``GuestConnection.come_back``, ``HostConnection.welcome_back``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from mlxbridge.errors import (
    BridgeError,
    ConnectionLost,
    InternalError,
    LimitExceeded,
    LocalProtocolError,
    RemoteProtocolError,
    Unavailable,
    from_wire,
    to_wire,
)
from mlxbridge.protocol.buffer import ReceiveBuffer
from mlxbridge.protocol.checksum import Checksum, Damaged, FrameSum
from mlxbridge.protocol.codec import (
    Buffer,
    DecodeError,
    decode,
    decode_handshake,
    encode_plain,
    make_encoder,
)
from mlxbridge.protocol.events import Closed, Cut, Event, GoawayReceived, PeerInfo, PongReceived
from mlxbridge.protocol.frames import (
    CHECKED_HEADER_BYTES,
    COUNTED,
    HEADER,
    HEADER_BYTES,
    KNOWN_FLAGS,
    MAGIC,
    WITH_PAYLOAD,
    WITHOUT_CALL,
    Flag,
    FrameType,
    encode_frame,
)
from mlxbridge.protocol.handshake import CHECKSUM, NONCE_BYTES
from mlxbridge.protocol.kept import Kept, KeptFrame
from mlxbridge.protocol.limits import (
    KEEPALIVE_MISSES,
    MAX_HANDSHAKE_HEAD_BYTES,
    MAX_SMALL_PAYLOAD_BYTES,
    Limits,
)
from mlxbridge.protocol.state import MAY_SEND, Role, State, peer_of

Handler = Callable[[int, int, Any, bytes], None]
"""Takes call, flags, decoded head, payload."""

# A member of an enum is looked up through its metaclass in Python 3.11: 0.1 to 0.2 us each time.
_OPEN, _CUT, _CLOSED = State.OPEN, State.CUT, State.CLOSED
_MORE = int(Flag.MORE)
_IGNORABLE = int(Flag.IGNORABLE)
_DATA = int(FrameType.DATA)
_unpack_header = HEADER.unpack_from
_COUNTED = frozenset(map(int, COUNTED))
_WITH_PAYLOAD = frozenset(map(int, WITH_PAYLOAD))
_WITHOUT_CALL = frozenset(map(int, WITHOUT_CALL))


_BRIEF_CHARS = 1000
"""What is kept of an error's text when all of it does not fit; no head with it is over the least limit."""

_ERROR_FIELDS = {
    "code": int,
    "name": str,
    "message": str,
    "retryable": bool,
    "details": dict,
    "request_id": str,
}


def read_error(head: Mapping[str, Any]) -> BridgeError:
    """The error in the head of an ERROR or GOAWAY frame; a field of a wrong type or below zero counts as missing."""
    fields = {key: head[key] for key, kind in _ERROR_FIELDS.items() if type(head.get(key)) is kind}
    retry_ms = head.get("retry_after_ms")
    if type(retry_ms) is int and retry_ms >= 0:
        fields["retry_after_ms"] = retry_ms
    return from_wire(fields)


def _skip(call: int, flags: int, head: Any, payload: bytes) -> None:
    """A frame of an unknown type whose sender marked it as safe to skip; its head is nobody's to judge."""


class Connection:
    """One end of a connection; use ``GuestConnection`` or ``HostConnection``.

    Args:
        software: name and version, for the peer's logs.
        nonce: 32 random bytes, fresh for each connection.
        limits: what this side is willing to receive.
        features: names of optional features this side has.
    """

    role: ClassVar[Role]

    def __init__(
        self,
        *,
        software: str,
        nonce: bytes,
        limits: Limits | None = None,
        features: frozenset[str] = frozenset(),
    ) -> None:
        if len(nonce) != NONCE_BYTES:
            raise LocalProtocolError(f"nonce must be {NONCE_BYTES} bytes")
        self.limits = limits or Limits()
        self.peer: PeerInfo | None = None
        self._software = software
        self._features = features
        self._nonce = nonce
        self._encode = make_encoder()
        self._kept: Kept | None = None  # what the peer may have missed, if the connection can be resumed
        self._events: list[Event] = []
        self._handlers: dict[int, Handler] = {}
        self._draining = False
        self._lingering = False
        self._frames_sent = 0  # message frames, as ACK counts them: over all transports, each once
        self._frames_acked = 0
        self._frames_received = 0
        self._frames_ack_sent = 0
        self._ack_every = max(1, self.limits.max_unacked_frames // 4)
        self._begin_transport()

    def _begin_transport(self) -> None:
        """Be as at the first byte, but for the calls."""
        self._in = ReceiveBuffer()
        self._piece_open = False
        self._piece_view = memoryview(b"")
        self._piece_sum = FrameSum(0, 0)  # of what came before it in its frame
        self._peer_hello = b""
        self._checksum: Checksum | None = None  # of all frames behind the HELLOs, if that was agreed on
        self._header_bytes = HEADER_BYTES  # of the frames that come
        self._magic_seen = False
        self._magic_sent = False
        self._out: list[Buffer] = []
        self._paused = False
        self._send_window = 1 << 62  # the peer's max_unacked_frames, once known
        self._pong: bytes | None = None
        self._heard = False
        self._misses = 0
        self._enter(State.HELLO)

    # -- receiving ---------------------------------------------------------------------------------------------

    def receive_buffer(self) -> memoryview:
        """Where to read the next bytes into; never empty, valid until ``received``."""
        return self._in.writable()

    def received(self, count: int) -> bool:
        """``count`` bytes were read into ``receive_buffer()``; false where they are more of a piece that is not yet whole.

        Nothing comes of those: there are no new events, and nothing new to send.
        """
        self._in.wrote(count)
        self._heard = True
        if self._in.filling:
            return False
        if self.closed:
            self._in.clear()
        else:
            self._parse()
        return True

    def receive_data(self, data: Buffer) -> None:
        """As ``received``, for bytes that lie elsewhere; they are copied."""
        view = memoryview(data)
        while view and not self.closed:
            view = view[self._in.write(view) :]
            self._heard = True
            self._parse()

    def receive_eof(self) -> None:
        """The peer will send nothing more."""
        self._lose(ConnectionLost("the peer closed the connection"))

    def events(self) -> list[Event]:
        """What happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    # -- sending -----------------------------------------------------------------------------------------------

    def data_to_send(self) -> list[Buffer]:
        """Bytes to write, in order; at most one piece of bulk data, so call it until it gives nothing.

        The buffers must not be changed before they are written.
        """
        if self._paused and self._state is not _CLOSED:
            return []
        if self._state is _OPEN:
            self._emit_control()
            self._release()
        out, self._out = self._out, []
        return out

    def pause(self) -> None:
        """The transport is full: hold everything back."""
        self._paused = True

    def resume(self) -> None:
        """The transport has room again; call ``data_to_send`` next."""
        self._paused = False

    def ping(self, body: bytes = b"") -> None:
        """Ask for a sign of life; ``PongReceived`` brings ``body`` (at most 64 bytes) back."""
        if len(body) > MAX_SMALL_PAYLOAD_BYTES:
            raise LocalProtocolError(f"ping body is {len(body)} bytes, at most {MAX_SMALL_PAYLOAD_BYTES}")
        self._require_open()
        self._put(encode_frame(FrameType.PING, 0, payload=body))

    def close(self, error: BridgeError | None = None) -> None:
        """End the connection now: a GOAWAY with the reason if there is one, then a ``Closed`` event."""
        if self._state is _CLOSED:
            return
        if error is not None and self._state is not _CUT:
            self._say_magic()  # a guest of another version must be able to read why it is refused
            self._put(self._goaway_frame(error, 0))
            self._lingering = True
        self._enter(_CLOSED)
        self._events.append(Closed(error))

    def keepalive(self) -> None:
        """Call every ``KEEPALIVE_INTERVAL_S`` of *running* time: pings a silent peer, gives up after two misses.

        A passive peer (a blocking client reads only while someone waits) is never given up for being silent.
        """
        if self._state is not _OPEN or self.peer is None:
            return
        if self._heard:
            self._heard, self._misses = False, 0
        elif self._misses >= KEEPALIVE_MISSES and not self.peer.passive:
            silent = ConnectionLost(f"nothing heard for {self._misses + 1} keepalive intervals")
            if self._kept is None:
                self.close(silent)
            else:
                self._lose(silent)
        elif self._misses < KEEPALIVE_MISSES:
            self._misses += 1
            if not self._paused:  # a PING that cannot leave is no question, and they must not pile up
                self.ping()

    @property
    def closed(self) -> bool:
        """No more frames will be accepted; close the transport when the last words are written."""
        return self._state is _CLOSED or self._state is _CUT

    @property
    def cut(self) -> bool:
        """The transport is lost, and the calls are not: the guest may come back for them."""
        return self._state is _CUT

    @property
    def lingering(self) -> bool:
        """Closed with last words: a transport that closes with unread bytes would reset the link and take them back."""
        return self._lingering

    @property
    def ready(self) -> bool:
        """The handshake is over and calls may be made."""
        return self._state is _OPEN

    @property
    def handshaking(self) -> bool:
        """The peer has not yet proved to be one; give it ``HANDSHAKE_TIMEOUT_S`` for that."""
        return self._state in (State.HELLO, State.AUTH, State.READY)

    @property
    def draining(self) -> bool:
        """A GOAWAY was sent or received: no new calls."""
        return self._draining

    @property
    def has_unsent(self) -> bool:
        """Whether anything still waits for room or credit."""
        return bool(self._out) or self._pong is not None

    @property
    def num_received(self) -> int:
        """Message frames that have come, over all transports; one that is sent again counts once."""
        return self._frames_received

    @property
    def num_kept_bytes(self) -> int:
        """What is kept for a peer that may have missed it."""
        return 0 if self._kept is None else self._kept.num_bytes

    # -- for the two roles -------------------------------------------------------------------------------------

    def _frame_handlers(self) -> dict[FrameType, Handler]:
        return {
            FrameType.GOAWAY: self._on_goaway,
            FrameType.PING: self._on_ping,
            FrameType.PONG: self._on_pong,
            FrameType.ACK: self._on_ack,
        }

    def _begin_piece(self, call: int, flags: int, head: Any, size: int) -> memoryview:
        raise NotImplementedError

    def _end_piece(self) -> None:
        raise NotImplementedError

    def _emit_control(self) -> None:
        if self._pong is not None:
            self._put(encode_frame(FrameType.PONG, 0, payload=self._pong))
            self._pong = None
        if self._frames_received - self._frames_ack_sent >= self._ack_every:
            self._frames_ack_sent = self._frames_received
            self._put(encode_frame(FrameType.ACK, 0, self._encode(self._frames_received)))

    def _release(self) -> None:
        """Move what waits and may leave now into ``_out``."""

    @property
    def _blocked(self) -> bool:
        return self._paused or self._frames_sent - self._frames_acked >= self._send_window

    def _emit(self, frame: Buffer, call: int = 0, payload: Sequence[Buffer] = ()) -> None:
        """Send a message frame; a DATA frame's payload lies elsewhere, and is not kept for a peer that missed it."""
        self._frames_sent += 1
        if self._kept is not None:
            self._kept.add(call, None if payload else frame)
        self._put(frame, payload)

    def _put(self, frame: Buffer, payload: Sequence[Buffer] = ()) -> None:
        self._out.append(frame if self._checksum is None else self._checksum.seal(frame, payload))
        self._out += payload

    def _agree(self, features: frozenset[str], hellos: bytes) -> None:
        """Both HELLOs are known: from here on frames have checksums, if both sides want them."""
        if CHECKSUM in features & self._features:
            self._checksum = Checksum(hellos)
            self._header_bytes = CHECKED_HEADER_BYTES

    def _lose(self, error: ConnectionLost) -> None:
        """The transport is of no use any more."""
        if self.closed:
            return
        if self._kept is not None:
            self._be_cut(error)
        else:
            self._enter(_CLOSED)
            self._events.append(Closed(error))

    def _be_cut(self, error: BridgeError) -> None:
        if self._piece_open:  # it counts as received, but is not whole
            self._piece_open = False
            self._frames_received -= 1
        self._out.clear()
        self._send_window = 0  # so that everything waits
        self._enter(_CUT)
        self._events.append(Cut(error))

    def _missed_after(self, received: int) -> list[KeptFrame] | None:
        """The message frames behind so many, which the peer has got; None if they are not kept any more."""
        kept, num_missed = self._kept, self._frames_sent - received
        if kept is None or not 0 <= num_missed <= len(kept):
            return None
        kept.keep_last(num_missed)
        self._frames_acked = received
        self._frames_ack_sent = self._frames_received  # which the handshake has told
        return kept.frames

    def _enter(self, state: State) -> None:
        self._state = state
        self._max_head = self.limits.max_head_bytes if state is _OPEN else MAX_HANDSHAKE_HEAD_BYTES
        if state is _CLOSED or state is _CUT:
            self._in.clear()
            self._pong = None
        if state is _CLOSED and self._kept is not None:
            self._kept.close()
        allowed = MAY_SEND[peer_of(self.role)].get(state, frozenset())
        handlers = self._frame_handlers()
        self._handlers = {int(kind): handlers[kind] for kind in allowed}

    def _open(self, peer: PeerInfo) -> None:
        self.peer = peer
        self._send_window = peer.limits.max_unacked_frames
        self._enter(_OPEN)

    def _require_open(self) -> None:
        if self._state is not _OPEN:
            raise LocalProtocolError(f"the connection is {self._state.value}, not open")

    def _say_magic(self) -> None:
        if not self._magic_sent:
            self._magic_sent = True
            self._out.append(MAGIC)

    def _goaway_frame(self, error: BridgeError, drain_ms: int) -> bytes:
        head = self._encode_error(error, MAX_HANDSHAKE_HEAD_BYTES, drain_ms=drain_ms)
        return encode_frame(FrameType.GOAWAY, 0, head)

    def _encode_error(self, error: BridgeError, most: int, **more: Any) -> bytes:
        """The head that tells of ``error``, at any rate: what cannot be said is left out."""
        try:
            head = encode_plain(self._encode, {**to_wire(error), **more})
            if len(head) <= most:
                return head
        except (ValueError, OverflowError):  # odd details or retry_after, lone surrogates in the text
            pass
        message = error.message[:_BRIEF_CHARS].encode(errors="backslashreplace").decode()
        plain = {"code": error.code or InternalError.code, "name": type(error).__name__, "message": message}
        return self._encode({**plain, "retryable": error.retryable, **more})

    # -- parsing -----------------------------------------------------------------------------------------------

    def _parse(self) -> None:
        try:
            if not self._magic_seen and not self._check_magic():
                return
            while not self.closed and self._parse_frame():
                pass
        except Damaged as damage:
            self._lose(ConnectionLost(f"bytes were changed under way: {damage}"))
        except BridgeError as error:
            self._refuse(error)

    def _refuse(self, breach: BridgeError) -> None:
        """The peer has sent what it must not."""
        self.close(breach)

    def _check_magic(self) -> bool:
        buffer = self._in
        if buffer.end - buffer.start < len(MAGIC):
            return False
        given = bytes(buffer.view[buffer.start : buffer.start + len(MAGIC)])
        if given != MAGIC:
            raise RemoteProtocolError(
                f"the peer does not speak mlxbridge: it began with {given!r}, not {MAGIC!r}"
            )
        self._magic_seen = True
        buffer.skip(len(MAGIC))
        return True

    def _parse_frame(self) -> bool:
        """One frame, or one piece of one; False if more bytes are needed."""
        buffer = self._in
        if self._piece_open:
            if buffer.filling:
                return False
            if self._checksum is not None:
                self._piece_sum.check(self._piece_view)
            self._piece_open = False
            self._end_piece()
        start, have, header_bytes = buffer.start, buffer.end - buffer.start, self._header_bytes
        if have < header_bytes:
            return False
        length, head_length, call, kind, flags, reserved = _unpack_header(buffer.view, start)
        if self._checksum is not None:
            self._checksum.check_header(buffer.view[start : start + HEADER_BYTES], reserved)
            reserved = 0
        handler = self._handlers.get(kind)
        if handler is None or flags or reserved:
            handler = self._check_rare(kind, flags, reserved, length, head_length)
        if head_length > length or head_length > self._max_head or (call == 0) is not (kind in _WITHOUT_CALL):
            self._refuse_header(kind, call, length, head_length)
        payload_length = length - head_length
        is_data = kind == _DATA
        if payload_length and not is_data:
            self._check_small_payload(kind, payload_length)
        body = start + header_bytes
        if have < header_bytes + (head_length if is_data else length):
            return False
        if self._checksum is not None:
            found = self._checksum.read(buffer.view[start : body + (head_length if is_data else length)])
            if is_data:
                self._piece_sum = found  # what is missing is still to come
            else:
                found.check()
        head = None
        if head_length and handler is not _skip:
            head = self._decode_head(kind, buffer.view[body : body + head_length])
        if kind in _COUNTED:
            self._frames_received += 1
        if is_data:
            self._take_piece(call, flags, head, head_length, payload_length)
        else:
            payload = bytes(buffer.view[body + head_length : body + length]) if payload_length else b""
            buffer.skip(header_bytes + length)
            handler(call, flags, head, payload)
        return True

    def _check_rare(self, kind: int, flags: int, reserved: int, length: int, head_length: int) -> Handler:
        """What the common frame does not need: flags, reserved bits, types that are unknown or out of turn."""
        if reserved or flags & ~KNOWN_FLAGS:
            raise RemoteProtocolError(
                f"frame type {kind}: reserved bits are set (flags {flags:#04x}, reserved {reserved:#06x})"
            )
        if flags & _MORE and kind != _DATA:
            raise RemoteProtocolError(f"frame type {kind}: only DATA may have MORE")
        handler = self._handlers.get(kind)
        if handler is not None:
            return handler
        try:
            name = FrameType(kind).name
        except ValueError:
            if flags & _IGNORABLE and self._state is _OPEN:
                if length - head_length > self.limits.max_piece_bytes:
                    raise LimitExceeded(f"frame type {kind}: {length} bytes are too many to skip") from None
                return _skip
            raise RemoteProtocolError(f"frame type {kind} is unknown and not marked ignorable") from None
        raise RemoteProtocolError(
            f"{name} is not allowed from a {peer_of(self.role).value} while {self._state.value}"
        )

    def _refuse_header(self, kind: int, call: int, length: int, head_length: int) -> None:
        if head_length > length:
            raise RemoteProtocolError(
                f"frame type {kind}: head of {head_length} bytes in a frame of {length}"
            )
        if head_length > self._max_head:
            raise LimitExceeded(f"frame type {kind}: head of {head_length} bytes, at most {self._max_head}")
        if kind in self._handlers:
            raise RemoteProtocolError(
                f"frame type {kind}: call {call} {'on' if call else 'missing on'} a frame that wants {'none' if call else 'one'}"
            )

    def _check_small_payload(self, kind: int, size: int) -> None:
        if kind in self._handlers:
            most = MAX_SMALL_PAYLOAD_BYTES if kind in _WITH_PAYLOAD else 0
            if size > most:
                raise RemoteProtocolError(f"frame type {kind}: payload of {size} bytes, at most {most}")

    def _decode_head(self, kind: int, data: memoryview) -> Any:
        try:
            return decode(data) if self._state is _OPEN else self._decode_hello(kind, data)
        except DecodeError as error:
            raise RemoteProtocolError(f"frame type {kind}: head is not valid msgpack ({error})") from error

    def _decode_hello(self, kind: int, data: memoryview) -> Any:
        if kind == FrameType.HELLO:
            self._peer_hello = bytes(data)  # both proofs cover it as it was on the wire
        return decode_handshake(data)

    def _take_piece(self, call: int, flags: int, head: Any, head_length: int, size: int) -> None:
        if size > self.limits.max_piece_bytes:
            raise LimitExceeded(f"DATA: piece of {size} bytes, at most {self.limits.max_piece_bytes}")
        sink = self._begin_piece(call, flags, head, size)
        self._in.skip(self._header_bytes + head_length)
        self._piece_open = True
        self._piece_view = sink[:size]
        if size:
            self._in.fill(sink, size)

    # -- frames of both roles ----------------------------------------------------------------------------------

    def _on_goaway(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        head = head if isinstance(head, dict) else {}
        error = read_error(head)
        drain_ms = head.get("drain_ms")
        self._draining = True
        if isinstance(error, Unavailable) and self._state is _OPEN:
            self._events.append(
                GoawayReceived(error, drain_ms if type(drain_ms) is int and drain_ms > 0 else 0)
            )
        else:
            self._enter(_CLOSED)
            self._events.append(Closed(error))

    def _on_ping(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        self._pong = payload  # a newer PING replaces an unanswered one, so a flood costs nothing

    def _on_pong(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        self._events.append(PongReceived(payload))

    def _on_ack(self, call: int, flags: int, head: Any, payload: bytes) -> None:
        if type(head) is not int or not 0 <= head <= self._frames_sent:
            raise RemoteProtocolError(f"ACK: the head must be a count of at most {self._frames_sent} frames")
        self._frames_acked = max(self._frames_acked, head)
        if self._kept is not None:
            self._kept.keep_last(self._frames_sent - self._frames_acked)
