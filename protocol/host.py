"""The end that answers calls: the host's front towards a guest, a worker towards the front.

``AnsweringConnection`` has the calls. Here are the two ways to begin: a guest is let in (SPEC.md §5), or it comes back for
the calls of a connection that was cut (§8).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxbridge.errors import AuthenticationError, ConnectionLost, Gone, RemoteProtocolError, Unavailable
from mlxbridge.protocol.answering import AnsweringConnection
from mlxbridge.protocol.events import PeerInfo, Ready, ResumeAsked, Resumed
from mlxbridge.protocol.frames import FrameType, encode_frame
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
from mlxbridge.protocol.limits import Limits
from mlxbridge.protocol.reader import Handler
from mlxbridge.protocol.rows import NO_ROWS
from mlxbridge.protocol.state import State

_NOT_KEPT = Gone("the link broke under a payload, which is not kept", details={"repeatable": True})


class HostConnection(AnsweringConnection):
    """Receives calls and answers each exactly once, with ``finish`` or ``fail``.

    Args:
        tokens: secret by guest name; None lets everyone in.
        resumption: with what a guest can come back, if the link breaks; None: it cannot.
        kept_pool: bounds what is kept for the guests of many connections; None: this one is alone.
    """

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
        # On another connection, by a guest that comes back: its link, its secret, the message frames that have come.
        self._claim: tuple[bytes, bytes, int] | None = None
        self._identity: str | None = None
        self._known = False  # whether ``_identity`` has a token here
        self._expected_proof = b""

    def go_away(self, reason: str, drain_ms: int) -> None:
        """Take no more calls; those that are open have ``drain_ms`` left. The owner closes when they are done.

        During the handshake this closes the connection.
        """
        if self.handshaking:
            self.close(Unavailable(reason))
        elif not self._draining and self._state is State.OPEN:
            self._draining = True
            self._writer.put(self._goaway_frame(Unavailable(reason), drain_ms))

    # -- a guest is let in -------------------------------------------------------------------------------------

    def _frame_handlers(self) -> dict[FrameType, Handler]:
        return {
            **super()._frame_handlers(),
            FrameType.HELLO: self._on_hello,
            FrameType.AUTH: self._on_auth,
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
        self._writer.say_magic()
        if self._tokens is None:
            self._writer.put(encode_frame(FrameType.HELLO, 0, hello))
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
        if secret is None:  # it gets a proof too, so that names cannot be probed; it is refused later
            secret = decoy_secret(self._tokens, identity)
        self._identity = identity
        self._expected_proof = guest_proof(secret, self._reader.hello, hello)
        self._writer.put(
            encode_frame(FrameType.HELLO, 0, hello, host_proof(secret, self._reader.hello, hello))
        )
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
            self._writer.kept, agreed = Kept(self._kept_pool), {"resume": self._resumption.to_wire()}
        self._begin(agreed or {})
        self._events.append(Ready(self._hello_peer, self._identity))

    def _begin(self, more: Mapping[str, Any]) -> None:
        head = {"identity": self._identity} if self._identity is not None else {}
        self._writer.put(encode_frame(FrameType.READY, 0, self._encode({**head, **more})))
        self._open(self._hello_peer)

    # -- a guest comes back ------------------------------------------------------------------------------------

    def welcome_back(self, fresh: HostConnection, received: int) -> bool:
        """Go on where the guest has come back, which ``fresh`` has told by ``ResumeAsked``; its transport is this one's then.

        A payload that the guest has not got whole ends its call with ``Gone``.

        Args:
            received: the message frames that the guest has got.

        Returns:
            False, with nothing changed, if what it has missed is not there any more, or the connection is closed.
        """
        missed = None if self._state is State.CLOSED else self._missed_after(received)
        if missed is None or self._writer.kept is None:
            return False
        self._lose(ConnectionLost("the guest has come back over another link"))
        broken = {call for call, frame in missed if frame is None}
        # What is left out is counted all the same, and so something is sent in its place.
        missed = [(call, NO_ROWS if call in broken else frame) for call, frame in missed]
        self._writer.kept.replace(missed)
        self._take_over(fresh)
        for _, frame in missed:
            assert frame is not None
            self._writer.put(frame)
        self._answers.replace(broken, _NOT_KEPT)
        self._events.append(Resumed())
        return True

    def _take_over(self, fresh: HostConnection) -> None:
        """Use the transport of another connection, whose handshake is over but for READY."""
        self._begin_transport(self.num_received)
        self._reader, fresh._reader = fresh._reader, self._reader
        self._reader.hand_over(self)
        self._writer.take_over(fresh._writer)
        self._hello_peer = fresh._hello_peer
        fresh._enter(State.CLOSED)
        self._begin({"resumed": {"received": self.num_received}})
