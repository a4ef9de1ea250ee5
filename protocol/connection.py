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

from typing import Any, ClassVar

from mlxbridge.errors import (
    BridgeError,
    ConnectionLost,
    LocalProtocolError,
    RemoteProtocolError,
    Unavailable,
)
from mlxbridge.protocol.checksum import Checksum, Damaged
from mlxbridge.protocol.codec import Buffer, make_encoder
from mlxbridge.protocol.error_head import encode_error, read_error
from mlxbridge.protocol.events import Closed, Cut, Event, GoawayReceived, PeerInfo, PongReceived
from mlxbridge.protocol.frames import FrameType, encode_frame
from mlxbridge.protocol.handshake import CHECKSUM, NONCE_BYTES
from mlxbridge.protocol.kept import KeptFrame
from mlxbridge.protocol.limits import (
    KEEPALIVE_MISSES,
    MAX_HANDSHAKE_HEAD_BYTES,
    MAX_SMALL_PAYLOAD_BYTES,
    Limits,
)
from mlxbridge.protocol.reader import FrameReader, Handler
from mlxbridge.protocol.state import MAY_SEND, Role, State, peer_of
from mlxbridge.protocol.writer import FrameWriter

# A member of an enum is looked up through its metaclass in Python 3.11: 0.1 to 0.2 us each time.
_OPEN, _CUT, _CLOSED = State.OPEN, State.CUT, State.CLOSED


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
        self._writer = FrameWriter()
        self._events: list[Event] = []
        self._draining = False
        self._lingering = False
        self._frames_ack_sent = 0
        self._ack_every = max(1, self.limits.max_unacked_frames // 4)
        self._begin_transport()

    def _begin_transport(self, received_before: int = 0) -> None:
        """Be as at the first byte, but for the calls, and for the message frames that have come over other transports."""
        self._received_before = received_before
        self._reader = FrameReader(self)
        self._writer.begin()
        self._pong: bytes | None = None
        self._heard = False
        self._misses = 0
        self._enter(State.HELLO)

    # -- receiving ---------------------------------------------------------------------------------------------

    def receive_buffer(self) -> memoryview:
        """Where to read the next bytes into; never empty, valid until ``received``."""
        return self._reader.buffer.writable()

    def received(self, count: int) -> bool:
        """``count`` bytes were read into ``receive_buffer()``; false where they are more of a piece that is not yet whole.

        Nothing comes of those: there are no new events, and nothing new to send.
        """
        buffer = self._reader.buffer
        buffer.wrote(count)
        self._heard = True
        if buffer.filling:
            return False
        if self.closed:
            buffer.clear()
        else:
            self._read()
        return True

    def receive_data(self, data: Buffer) -> None:
        """As ``received``, for bytes that lie elsewhere; they are copied."""
        view = memoryview(data)
        while view and not self.closed:
            view = view[self._reader.buffer.write(view) :]
            self._heard = True
            self._read()

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
        if self._writer.paused and self._state is not _CLOSED:
            return []
        if self._state is _OPEN:
            self._emit_control()
            self._release()
        return self._writer.take()

    def pause(self) -> None:
        """The transport is full: hold everything back."""
        self._writer.paused = True

    def resume(self) -> None:
        """The transport has room again; call ``data_to_send`` next."""
        self._writer.paused = False

    def ping(self, body: bytes = b"") -> None:
        """Ask for a sign of life; ``PongReceived`` brings ``body`` (at most 64 bytes) back."""
        if len(body) > MAX_SMALL_PAYLOAD_BYTES:
            raise LocalProtocolError(f"ping body is {len(body)} bytes, at most {MAX_SMALL_PAYLOAD_BYTES}")
        self._require_open()
        self._writer.put(encode_frame(FrameType.PING, 0, payload=body))

    def close(self, error: BridgeError | None = None) -> None:
        """End the connection now: a GOAWAY with the reason if there is one, then a ``Closed`` event."""
        if self._state is _CLOSED:
            return
        if error is not None and self._state is not _CUT:
            self._writer.say_magic()  # a guest of another version must be able to read why it is refused
            self._writer.put(self._goaway_frame(error, 0))
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
            if self._writer.kept is None:
                self.close(silent)
            else:
                self._lose(silent)
        elif self._misses < KEEPALIVE_MISSES:
            self._misses += 1
            if not self._writer.paused:  # a PING that cannot leave is no question, and they must not pile up
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
        return self._writer.has_waiting or self._pong is not None

    @property
    def num_received(self) -> int:
        """Message frames that have come, over all transports; one that is sent again counts once."""
        return self._received_before + self._reader.num_counted

    @property
    def num_kept_bytes(self) -> int:
        """What is kept for a peer that may have missed it."""
        kept = self._writer.kept
        return 0 if kept is None else kept.num_bytes

    # -- for the two roles -------------------------------------------------------------------------------------

    def _frame_handlers(self) -> dict[FrameType, Handler]:
        return {
            FrameType.GOAWAY: self._on_goaway,
            FrameType.PING: self._on_ping,
            FrameType.PONG: self._on_pong,
            FrameType.ACK: self._on_ack,
        }

    def begin_piece(self, call: int, flags: int, head: Any, size: int) -> memoryview:
        """A DATA frame begins (``reader.Receiver``)."""
        raise NotImplementedError

    def end_piece(self) -> None:
        """Its payload is whole."""
        raise NotImplementedError

    def _emit_control(self) -> None:
        if self._pong is not None:
            self._writer.put(encode_frame(FrameType.PONG, 0, payload=self._pong))
            self._pong = None
        received = self.num_received
        if received - self._frames_ack_sent >= self._ack_every:
            self._frames_ack_sent = received
            self._writer.put(encode_frame(FrameType.ACK, 0, self._encode(received)))

    def _release(self) -> None:
        """Give the writer what waits and may leave now."""

    def _agree(self, features: frozenset[str], hellos: bytes) -> None:
        """Both HELLOs are known: from here on frames have checksums, if both sides want them."""
        if CHECKSUM in features & self._features:
            checksum = Checksum(hellos)
            self._reader.expect_checksums(checksum)
            self._writer.add_checksums(checksum)

    def _lose(self, error: ConnectionLost) -> None:
        """The transport is of no use any more."""
        if self.closed:
            return
        if self._writer.kept is not None:
            self._be_cut(error)
        else:
            self._enter(_CLOSED)
            self._events.append(Closed(error))

    def _be_cut(self, error: BridgeError) -> None:
        self._reader.drop_piece()
        self._writer.stop()
        self._enter(_CUT)
        self._events.append(Cut(error))

    def _missed_after(self, received: int) -> list[KeptFrame] | None:
        """The message frames behind so many, which the peer has got; None if they are not kept any more."""
        missed = self._writer.missed_after(received)
        if missed is not None:
            self._frames_ack_sent = self.num_received  # which the handshake has told
        return missed

    def _enter(self, state: State) -> None:
        self._state = state
        if state is _CLOSED or state is _CUT:
            self._pong = None
        if state is _CLOSED and self._writer.kept is not None:
            self._writer.kept.close()
        allowed = MAY_SEND[peer_of(self.role)].get(state, frozenset())
        handlers = self._frame_handlers()
        self._reader.expect(state, {int(kind): handlers[kind] for kind in allowed})

    def _open(self, peer: PeerInfo) -> None:
        self.peer = peer
        self._writer.open(peer.limits.max_unacked_frames)
        self._enter(_OPEN)

    def _require_open(self) -> None:
        if self._state is not _OPEN:
            raise LocalProtocolError(f"the connection is {self._state.value}, not open")

    def _goaway_frame(self, error: BridgeError, drain_ms: int) -> bytes:
        head = encode_error(self._encode, error, MAX_HANDSHAKE_HEAD_BYTES, drain_ms=drain_ms)
        return encode_frame(FrameType.GOAWAY, 0, head)

    def _read(self) -> None:
        try:
            self._reader.read()
        except Damaged as damage:
            self._lose(ConnectionLost(f"bytes were changed under way: {damage}"))
        except BridgeError as error:
            self._refuse(error)

    def _refuse(self, breach: BridgeError) -> None:
        """The peer has sent what it must not."""
        self.close(breach)

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
        num_sent = self._writer.num_sent
        if type(head) is not int or not 0 <= head <= num_sent:
            raise RemoteProtocolError(f"ACK: the head must be a count of at most {num_sent} frames")
        self._writer.acknowledge(head)
