"""One guest's connection, from the handshake to the end, over however many links."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Mapping

from mlxbridge import __version__
from mlxbridge.errors import (
    BridgeError,
    ConnectionLost,
    Gone,
    HandshakeTimeout,
    Unavailable,
)
from mlxbridge.host.server.away import NOTHING_LEFT, Away
from mlxbridge.host.server.guest import Guest
from mlxbridge.host.server.guest_calls import GuestCalls, Methods
from mlxbridge.host.telemetry.telemetry import Telemetry
from mlxbridge.logs import fields
from mlxbridge.protocol.events import (
    CallCancelled,
    CallOpened,
    Closed,
    Cut,
    Ready,
    ResumeAsked,
    Resumed,
)
from mlxbridge.protocol.handshake import CHECKSUM, NONCE_BYTES
from mlxbridge.protocol.host import HostConnection
from mlxbridge.protocol.limits import HANDSHAKE_TIMEOUT_S, KEEPALIVE_INTERVAL_S
from mlxbridge.transport.driver import Driver

log = logging.getLogger(__name__)

DRAIN_LINGER_S = 0.2
"""How long an idle session stays after its GOAWAY: a CALL that is under way is then refused and not cut off."""

SOFTWARE = f"mlxbridge-host/{__version__}"
_FEATURES = frozenset({CHECKSUM})


class Session:
    """From accepting a connection to losing it.

    Args:
        methods: answers the calls.
        tokens: secret by guest name; None lets everyone in.
        telemetry: is told of the guest and its calls.
        on_lost: called once, when it is over.
        describe_peer: who is at the other end of a transport, for the log.
        away: whether its calls may wait for a guest whose link broke, and where the guest finds them.

    Attributes:
        calls: those that the guest has open.
        resumption: with what the guest may come back; None if it may not.
    """

    def __init__(
        self,
        methods: Methods,
        tokens: Mapping[str, bytes] | None,
        telemetry: Telemetry,
        on_lost: Callable[[Session], None],
        describe_peer: Callable[[asyncio.Transport], str],
        away: Away,
    ) -> None:
        self._telemetry = telemetry
        self._on_lost = on_lost
        self._describe_peer = describe_peer
        self._away = away
        self._grace_s = away.grace_s
        self.resumption = away.new_resumption()
        self._connection = HostConnection(
            software=SOFTWARE,
            nonce=os.urandom(NONCE_BYTES),
            tokens=tokens,
            features=_FEATURES,
            resumption=self.resumption,
            kept_pool=away.kept_pool,
        )
        self.driver = Driver(self._connection, self._on_events, self._on_connection_lost)
        self.calls = GuestCalls(self._connection, methods, telemetry, Guest(), self.flush)
        self._loop = asyncio.get_running_loop()
        # One at a time: for the handshake, the next keepalive, or the guest to come back.
        self._timer = self._loop.call_later(HANDSHAKE_TIMEOUT_S, self._on_handshake_timeout)
        self._drain: asyncio.TimerHandle | None = None
        self._closes_when_idle = False

    @property
    def guest(self) -> Guest:
        """Who has the connection, as far as is known."""
        return self.calls.guest

    @property
    def num_calls(self) -> int:
        """Calls that have not ended."""
        return self._connection.num_calls

    @property
    def is_away(self) -> bool:
        """Whether its calls wait for a guest whose link broke."""
        return self._connection.cut

    def go_away(self, reason: str, drain_s: float) -> None:
        """Take no more calls; close when the last one has ended, and a CALL under way has been refused."""
        if self.is_away:  # nobody can come back to a host that does not listen
            self.close(Unavailable(reason))
        if self._connection.handshaking:
            self._connection.close(Unavailable(reason))
        self._connection.go_away(reason, round(drain_s * 1000))
        if self._drain is None:
            self._drain = self._loop.call_later(DRAIN_LINGER_S, self._close_when_idle)
        self.flush()

    def close(self, error: BridgeError) -> None:
        """End every call with ``error``, and the connection."""
        self.calls.end(error)
        was_away = self.is_away
        # Who may come back sees the stream end; who may not has to be told, or would try.
        is_final = self._connection.handshaking or not isinstance(error, Unavailable)
        self._connection.close(error if is_final else None)
        if was_away:
            self._on_events()
            self._on_connection_lost()
        self.flush()

    def welcome_back(self, fresh: Session, asked: ResumeAsked) -> None:
        """Go on with a guest that has come back over another session's link.

        Raises:
            Gone: it may not, or it is too late.
        """
        own, driver = self.resumption, self.driver
        if (
            own is None
            or not secrets.compare_digest(own.secret, asked.secret)
            or asked.identity != self.guest.identity
            or self._connection.draining
        ):
            raise Gone(NOTHING_LEFT)
        if not self._connection.welcome_back(fresh._connection, asked.received):
            error = Gone("this host has not kept all that the guest has missed: it was too much")
            self.close(error)  # nobody else can come back to it
            raise error
        driver.release()
        self.driver = fresh.driver
        self.driver.serve(self._connection, self._on_events, self._on_connection_lost)
        fresh._timer.cancel()
        fresh._on_lost(fresh)
        self._on_events()

    def refuse_return(self, error: BridgeError) -> None:
        """There is nothing to which this guest can come back."""
        self._timer.cancel()
        self._connection.close(error)

    def flush(self) -> None:
        """Write what there is; close once a draining session is idle."""
        self.driver.flush()
        if self._closes_when_idle and not self._connection.num_calls and not self._connection.closed:
            self._connection.close()
            self.driver.flush()

    # ------------------------------------------------------------------------------------------------------------

    def _on_events(self) -> None:
        for event in self._connection.events():
            if isinstance(event, CallOpened):
                self.calls.open(event)
            elif isinstance(event, CallCancelled):
                self.calls.cancel(event.call)
            elif isinstance(event, Ready):
                self._on_ready(event)
            elif isinstance(event, Cut):
                self._on_cut(event)
            elif isinstance(event, Resumed):
                self._on_resumed()
            elif isinstance(event, ResumeAsked):
                self._away.receive(self, event)
            elif isinstance(event, Closed):
                self._on_closed(event)
        self.calls.tell_credit()
        if self._closes_when_idle:
            self._loop.call_soon(self.flush)

    def _on_ready(self, event: Ready) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(KEEPALIVE_INTERVAL_S, self._tick_keepalive)
        transport = self.driver.transport
        where = self._describe_peer(transport) if transport is not None else "gone"
        if event.identity is not None:
            self.calls.guest = Guest.with_token(event.identity)
        self.calls.peer = f"{event.identity}@{where}" if event.identity else where
        # What a guest wrote goes into the log as a literal, or it could write lines of its own.
        log.info(
            "guest %s connected (%r)",
            self.calls.peer,
            event.peer.software,
            extra=fields(guest=self.guest.name),
        )
        self._tell_guest("connected")

    def _tell_guest(self, what: str) -> None:
        self._telemetry.events.publish(what, {"guest": self.guest.name}, owner=self.guest.identity)

    def _tick_keepalive(self) -> None:
        self._connection.keepalive()
        self._on_events()
        self.flush()
        if not self._connection.closed:
            self._timer = self._loop.call_later(KEEPALIVE_INTERVAL_S, self._tick_keepalive)

    def _close_when_idle(self) -> None:
        self._closes_when_idle = True
        self.flush()

    def _on_handshake_timeout(self) -> None:
        if self._connection.handshaking:
            self._connection.close(HandshakeTimeout(f"no HELLO within {HANDSHAKE_TIMEOUT_S:g} s"))
            self._on_events()
            self.flush()

    def _on_cut(self, event: Cut) -> None:
        """Let the calls wait for the guest, if it has left any and there is room; nothing is computed meanwhile."""
        if not self.is_away:  # it is back already
            return
        self._timer.cancel()
        self.calls.hold()
        connection = self._connection
        has_left_any = connection.num_calls or connection.num_kept_bytes
        if (
            connection.draining
            or not has_left_any
            or not self._away.enter(self, self.guest.key, connection.num_calls, connection.held_bytes)
        ):
            connection.close()
            connection.events()
            self._on_closed(Closed(event.error))
            return
        self._timer = self._loop.call_later(self._grace_s, self._on_grace_over)
        self.driver.release()  # what a peer that has stalled has not read must not delay the transport's end
        log.info(
            "guest %s is away (%s): %d calls wait %g s for it",
            self.calls.peer,
            event.error.message,
            connection.num_calls,
            self._grace_s,
            extra=fields(guest=self.guest.name),
        )

    def _on_resumed(self) -> None:
        self._away.leave(self)
        self._timer.cancel()
        self._timer = self._loop.call_later(KEEPALIVE_INTERVAL_S, self._tick_keepalive)
        log.info("guest %s is back", self.calls.peer, extra=fields(guest=self.guest.name))
        self.calls.go_on()

    def _on_grace_over(self) -> None:
        self.close(ConnectionLost("the guest has left"))

    def _on_closed(self, event: Closed) -> None:
        self._timer.cancel()
        self._away.leave(self)
        if event.error is not None and self._connection.peer is None:
            transport = self.driver.transport
            where = self._describe_peer(transport) if transport is not None else "gone"
            log.warning("a guest (%s) was refused: %r", where, event.error.message)
        self.calls.abandon()

    def _on_connection_lost(self) -> None:
        if self.is_away:
            return
        self._timer.cancel()
        if self._drain is not None:
            self._drain.cancel()
        if self._connection.peer is not None:
            log.info("guest %s left", self.calls.peer, extra=fields(guest=self.guest.name))
            self._tell_guest("gone")
        self._on_lost(self)
