"""The end that opens calls: a guest library, or the host's front towards a worker.

``CallingConnection`` has the calls. Here are the two ways to begin: the handshake (SPEC.md §5), and the way back to the
calls of a connection that was cut (§8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlxbridge.errors import AuthenticationError, BridgeError, Gone, LocalProtocolError, RemoteProtocolError
from mlxbridge.protocol.calling import CallingConnection
from mlxbridge.protocol.codec import Buffer, decode
from mlxbridge.protocol.error_head import read_error
from mlxbridge.protocol.events import PeerInfo, Ready, Resumed
from mlxbridge.protocol.frames import HEADER_BYTES, FrameType, encode_frame
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
from mlxbridge.protocol.limits import Limits, Windows
from mlxbridge.protocol.reader import Handler
from mlxbridge.protocol.state import State

TimeLeft = Callable[[int], int | None]
"""The milliseconds that a call still has, by its number; None for no limit."""


class GuestConnection(CallingConnection):
    """Opens calls and receives their streams. ``data_to_send()`` has the HELLO from the start.

    Args:
        token: proves this guest to the host, and demands the same of it; None for a host that wants none.
        passive: this end reads only while a call is open (a blocking client).
        windows: the credit each call starts with.
        allocate: gives writable memory of so many bytes for a payload, or for a piece.
        piecewise: payloads come as ``PieceReceived``, for one who passes them on; ``consume`` each piece when it has left.
    """

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
        super().__init__(
            software=software,
            nonce=nonce,
            limits=limits,
            features=features,
            windows=windows,
            allocate=allocate,
            piecewise=piecewise,
        )
        self._token = token
        self._passive = passive
        self._resumption: Resumption | None = None
        self._is_coming_back = False
        self._time_left: TimeLeft = lambda call: None
        self._say_hello()

    def leave(self, error: BridgeError) -> None:
        """End the connection, and tell the host that nobody will come back for its calls."""
        if self.ready and not self._writer.paused:
            self._writer.put(self._goaway_frame(error, 0))
            self._lingering = self.num_calls > 0  # a host that is just writing would find the link broken
        self.close()

    # -- the handshake -----------------------------------------------------------------------------------------

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
        self._writer.say_magic()
        self._writer.put(encode_frame(FrameType.HELLO, 0, self._own_hello))

    def _frame_handlers(self) -> dict[FrameType, Handler]:
        return {
            **super()._frame_handlers(),
            FrameType.HELLO: self._on_hello,
            FrameType.READY: self._on_ready,
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
            self._writer.put(encode_frame(FrameType.AUTH, 0, payload=guest_proof(secret, ours, theirs)))
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
            self._writer.kept = Kept()
        self._open(self._hello_peer)
        self._events.append(Ready(self._hello_peer, identity if isinstance(identity, str) else None))

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
            self._writer.put(self._renew(call, frame))
        self._repeat_control()
        self._events.append(Resumed())

    def _renew(self, call: int, frame: Buffer) -> Buffer:
        """A CALL that is sent again, with the time that it still has."""
        left_ms = self._time_left(call)
        if left_ms is None:
            return frame
        return encode_frame(
            FrameType.CALL, call, self._encode({**decode(frame[HEADER_BYTES:]), "deadline_ms": left_ms})
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
