"""One guest's connection: owns its protocol state, opens its calls, and is the sink of their answers."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from mlxbridge import __version__
from mlxbridge.errors import (
    BridgeError,
    ConnectionLost,
    DeadlineExceeded,
    Gone,
    HandshakeTimeout,
    InternalError,
    LimitExceeded,
    LocalProtocolError,
    Unavailable,
)
from mlxbridge.host.engine.interface import Origin
from mlxbridge.host.models.worker import GUEST_LEAD_S
from mlxbridge.host.server.away import Away
from mlxbridge.host.telemetry.request import Request
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
from mlxbridge.protocol.handshake import CHECKSUM, LINK_BYTES, LINK_SECRET_BYTES, NONCE_BYTES, Resumption
from mlxbridge.protocol.host import HostConnection
from mlxbridge.protocol.limits import HANDSHAKE_TIMEOUT_S, KEEPALIVE_INTERVAL_S
from mlxbridge.protocol.parts import Part
from mlxbridge.transport.driver import Driver

log = logging.getLogger(__name__)

DRAIN_LINGER_S = 0.2
"""How long an idle session stays after its GOAWAY: a CALL that is under way is then refused and not cut off."""

MAX_HELD_PAYLOAD_BYTES = 1 << 30
"""Payloads that calls of one connection may hold back; past it, each call fails that would hold back more.

What is still in the worker counts: the front itself holds at most ``models.worker.PAYLOAD_WINDOW_BYTES`` of each call. Over all
connections there is no other bound than their number.
"""

_numbers = itertools.count(1)

SOFTWARE = f"mlxbridge-host/{__version__}"
_NOT_KEPT = Gone("the link broke under a call whose answer is not kept", details={"repeatable": True})
_FEATURES = frozenset({CHECKSUM})


Work = Callable[[], Coroutine[Any, Any, Mapping[str, Any]]]
"""Makes the coroutine that works a call's result out."""


class Running(NamedTuple):
    """What a session may do to a call that runs.

    Attributes:
        cancel: nobody waits for it any more.
        hold: its guest is away: spend nothing on it, and say whether it can wait; None: it goes on, since it takes little.
        go_on: its guest is back.
    """

    cancel: Callable[[], object]
    hold: Callable[[], bool] | None = None
    go_on: Callable[[], object] = lambda: None


class Methods(Protocol):
    """What a session asks to answer calls (``server.methods``)."""

    def open(self, session: Session, event: CallOpened) -> Running | None:
        """Start a call; what may be done to it, if that is more than to forget about it.

        Raises:
            BridgeError: the call is refused.
        """


class Session:
    """From accepting a connection to losing it.

    Args:
        methods: answers the calls.
        tokens: secret by guest name; None lets everyone in.
        peer: who it is, for the log.
        telemetry: is told of its calls.
        on_lost: called once, when it is over.
        away: whether its calls may wait for a guest whose link broke.
        on_return: called if it turns out to be a guest that comes back to another session.
        grace_s: how long calls wait for their guest.
    """

    def __init__(
        self,
        methods: Methods,
        tokens: Mapping[str, bytes] | None,
        telemetry: Telemetry,
        on_lost: Callable[[Session], None],
        describe_peer: Callable[[asyncio.Transport], str],
        away: Away,
        on_return: Callable[[Session, ResumeAsked], None],
        grace_s: float = 0.0,
    ) -> None:
        self._methods = methods
        self._telemetry = telemetry
        self._on_lost = on_lost
        self._describe_peer = describe_peer
        self._away = away
        self._on_return = on_return
        self._grace_s = grace_s
        self._away_bytes: int | None = None  # what its calls count with, while its guest is away
        self.resumption = _new_resumption(grace_s) if grace_s else None
        self._connection = HostConnection(
            software=SOFTWARE,
            nonce=os.urandom(NONCE_BYTES),
            tokens=tokens,
            features=_FEATURES,
            resumption=self.resumption,
        )
        self.driver = Driver(self._connection, self._on_events, self._on_connection_lost)
        self._loop = asyncio.get_running_loop()
        self._requests: dict[int, Request] = {}
        self._running: dict[int, Running] = {}
        self._credit_listeners: dict[int, Callable[[int], object]] = {}
        self._deadlines: dict[int, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer = self._loop.call_later(HANDSHAKE_TIMEOUT_S, self._on_handshake_timeout)
        self._drain: asyncio.TimerHandle | None = None
        self._closes_when_idle = False
        self.peer = "a guest"
        self._identity: str | None = None
        self._guest = f"connection {next(_numbers)}"

    @property
    def identity(self) -> str | None:
        """The name of the guest's token, None if it has shown none."""
        return self._identity

    @property
    def _guest_name(self) -> str:
        """As it is told of: without the word that keeps tokens and connections apart."""
        return self._identity or self._guest

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
        for call in list(self._running):
            self._cancel(call)
            self.fail(call, error)
        was_away = self.is_away
        # Who may come back sees the stream end; who may not has to be told, or would try.
        is_final = self._connection.handshaking or not isinstance(error, Unavailable)
        self._connection.close(error if is_final else None)
        if was_away:
            self._on_events()
            self._on_connection_lost()
        self.flush()

    def welcome_back(self, fresh: Session, asked: ResumeAsked) -> bool:
        """Go on with a guest that has come back over another session's link; false if it may not, or it is too late."""
        own, driver = self.resumption, self.driver
        if (
            own is None
            or not secrets.compare_digest(own.secret, asked.secret)
            or asked.identity != self._identity
            or self._connection.draining
            or not self._connection.welcome_back(fresh._connection, asked.received)
        ):
            return False
        driver.release()
        self.driver = fresh.driver
        self.driver.serve(self._connection, self._on_events, self._on_connection_lost)
        fresh._timer.cancel()
        fresh._on_lost(fresh)
        self._on_events()
        return True

    def refuse_return(self, error: BridgeError) -> None:
        """There is nothing to which this guest can come back."""
        self._timer.cancel()
        self._connection.close(error)

    def run(self, call: int, work: Work) -> Running:
        """Answer a call with what a coroutine returns; it may be cancelled before it is made."""
        task = self._loop.create_task(self._answer(call, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Running(task.cancel)

    def name_model(self, call: int, model: str) -> None:
        """A call is about a model of this name."""
        if call in self._requests:
            self._requests[call].model = model

    def origin(self, call: int, deadline_ms: int | None, adapter: str | None = None) -> Origin:
        """For whom a call of this guest is run, if it came now; and with which adapter.

        Guests that share a token are one, and use each other's cached prefixes; without tokens each connection is a
        guest, and all use what any has left.
        """
        request = self._requests.get(call)
        return Origin(
            guest=self._guest,
            cache_scope=self._identity or "",
            adapter=adapter,
            deadline_at=None if deadline_ms is None else time.monotonic() + deadline_ms / 1000,
            request_id="" if request is None else request.request_id,
        )

    @property
    def guest(self) -> str:
        """For whom its calls count, see ``origin``."""
        return self._guest

    def num_held(self, call: int) -> int:
        """Items and payloads of a call that have not left."""
        return self._connection.num_held(call)

    def watch_credit(self, call: int, tell: Callable[[int], object]) -> int:
        """Tell somebody the guest's credit for items of a call, in all, whenever there may be more; what it is now."""
        self._credit_listeners[call] = tell
        return self._connection.items_granted(call)

    # -- models.job.Sink ---------------------------------------------------------------------------------------

    def send_tokens(
        self,
        calls: Sequence[int],
        token_ids: Sequence[list[int]],
        texts: Sequence[str],
        logprobs: Sequence[list[bytes] | None] | None = None,
        parts: Sequence[list[Part] | None] | None = None,
    ) -> None:
        """Tokens of one step, one row a call.

        A call fails, and stops its model, if it holds too many logprobs back, or had a part that the guest cannot take.
        """
        self._connection.send_tokens(calls, token_ids, texts, logprobs, parts)
        if logprobs is not None or parts is not None:
            for call in calls:
                self._cancel_if_refused(call)

    def send_item(self, call: int, value: Any) -> None:
        """One item of a call's stream, at once; a call whose items the guest does not take fails."""
        try:
            self._connection.send_item(call, value)
        except LocalProtocolError as error:
            self._connection.fail(call, LimitExceeded(error.message))
        self._cancel_if_refused(call)
        self.flush()

    def begin_data(
        self, call: int, meta: Mapping[str, Any], num_bytes: int, on_sent: Callable[[int], object]
    ) -> None:
        """A payload of the call, as the guest's credit allows; a call whose payloads the guest does not take fails."""
        held = self._connection.held_payload_bytes + num_bytes
        if held > MAX_HELD_PAYLOAD_BYTES:
            reason = f"{held} bytes of payloads would wait unread on this connection, at most {MAX_HELD_PAYLOAD_BYTES}"
            self._connection.fail(call, LimitExceeded(reason))
        self._connection.begin_data(call, meta, num_bytes, on_sent)
        self._cancel_if_refused(call)

    def continue_data(self, call: int, data: memoryview) -> None:
        """More of the payload that was begun."""
        self._connection.continue_data(call, data)

    def finish(self, call: int, result: Mapping[str, Any]) -> None:
        """The call ended well."""
        self._forget(call)
        unsent = self._connection.finish(call, result)
        self._tell_end(call, None if unsent else result, unsent)

    def fail(self, call: int, error: BridgeError) -> None:
        """The call ended badly."""
        self._forget(call)
        self._tell_end(call, error=error)
        self._connection.fail(call, error)

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
                self._open(event)
            elif isinstance(event, CallCancelled):
                self._on_cancelled(event.call)
            elif isinstance(event, Ready):
                self._on_ready(event)
            elif isinstance(event, Cut):
                self._on_cut(event)
            elif isinstance(event, Resumed):
                self._on_resumed()
            elif isinstance(event, ResumeAsked):
                self._on_return(self, event)
            elif isinstance(event, Closed):
                self._on_closed(event)
        for call, tell in self._credit_listeners.items():
            tell(self._connection.items_granted(call))
        if self._closes_when_idle:
            self._loop.call_soon(self.flush)

    def _open(self, event: CallOpened) -> None:
        call = event.call
        request = self._telemetry.begin(
            event.method, event.params, guest=self._guest_name, owner=self._identity
        )
        self._requests[call] = request
        self._connection.name_call(call, request.request_id)
        try:
            running = self._methods.open(self, event)
        except BridgeError as error:
            self.fail(call, error)
            return
        except Exception as error:
            log.exception(
                "%s: %r failed", self.peer, event.method, extra=fields(request_id=request.request_id)
            )
            self.fail(call, InternalError(f"{event.method} failed: {type(error).__name__}"))
            return
        if not self._connection.is_open(call):
            return
        if running is not None:
            self._running[call] = running
        if event.deadline_ms is not None:
            self._deadlines[call] = self._loop.call_later(
                event.deadline_ms / 1000, self._on_deadline, call, event.deadline_ms / 1000
            )

    def _on_cancelled(self, call: int) -> None:
        timer = self._deadlines.get(call)
        is_late = timer is not None and timer.when() - self._loop.time() <= GUEST_LEAD_S
        self._cancel(call)
        if is_late:  # the guest was the first to see it
            self._tell_end(
                call, error=DeadlineExceeded("the call's time was over, and the guest cancelled it")
            )
        self.finish(call, {"finish_reason": "cancelled"})

    def _cancel(self, call: int) -> None:
        running = self._running.get(call)
        self._forget(call)
        if running is not None:
            running.cancel()

    def _cancel_if_refused(self, call: int) -> None:
        """Stop a call that the connection has ended, since it holds back too much, or what the guest does not take."""
        if not self._connection.is_open(call):
            self._cancel(call)
            self._tell_end(call, error=LimitExceeded("the guest does not take so much"))

    def _tell_end(
        self, call: int, result: Mapping[str, Any] | None = None, error: BridgeError | None = None
    ) -> None:
        request = self._requests.pop(call, None)
        if request is not None:
            self._telemetry.end(request, result, error)

    def _forget(self, call: int) -> None:
        self._running.pop(call, None)
        self._credit_listeners.pop(call, None)
        timer = self._deadlines.pop(call, None)
        if timer is not None:
            timer.cancel()

    def _on_deadline(self, call: int, seconds: float) -> None:
        self._cancel(call)
        self.fail(call, DeadlineExceeded(f"the call's time budget of {seconds:g} s ran out on the host"))
        self.flush()

    async def _answer(self, call: int, work: Work) -> None:
        try:
            self.finish(call, await work())
        except BridgeError as error:
            self.fail(call, error)
        except Exception as error:
            request_id = self._connection.name_of(call)
            log.exception("%s: request %s failed", self.peer, request_id, extra=fields(request_id=request_id))
            self.fail(call, InternalError(f"{type(error).__name__}: {error}"))
        self.flush()

    def _on_ready(self, event: Ready) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(KEEPALIVE_INTERVAL_S, self._tick_keepalive)
        transport = self.driver.transport
        where = self._describe_peer(transport) if transport is not None else "gone"
        if event.identity is not None:
            self._identity, self._guest = event.identity, f"token {event.identity}"
        self.peer = f"{event.identity}@{where}" if event.identity else where
        # What a guest wrote goes into the log as a literal, or it could write lines of its own.
        log.info(
            "guest %s connected (%r)", self.peer, event.peer.software, extra=fields(guest=self._guest_name)
        )
        self._tell_guest("connected")

    def _tell_guest(self, what: str) -> None:
        self._telemetry.events.publish(what, {"guest": self._guest_name}, owner=self._identity)

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
        for call, running in list(self._running.items()):
            if running.hold is not None and not running.hold():
                self._cancel(call)
                self._break_off(call, _NOT_KEPT)
        connection = self._connection
        if not connection.draining and (connection.num_calls or connection.num_kept_bytes):
            self._away_bytes = self._away.enter(self._guest, connection.num_calls, connection.held_bytes)
        if self._away_bytes is None:
            connection.close()
            connection.events()
            self._on_closed(Closed(event.error))
            return
        self._timer = self._loop.call_later(self._grace_s, self._on_grace_over)
        self.driver.release()  # what a peer that has stalled has not read must not delay the transport's end
        log.info(
            "guest %s is away (%s): %d calls wait %g s for it",
            self.peer,
            event.error.message,
            connection.num_calls,
            self._grace_s,
            extra=fields(guest=self._guest_name),
        )

    def _on_resumed(self) -> None:
        self._end_absence()
        self._timer.cancel()
        self._timer = self._loop.call_later(KEEPALIVE_INTERVAL_S, self._tick_keepalive)
        log.info("guest %s is back", self.peer, extra=fields(guest=self._guest_name))
        for call, running in list(self._running.items()):
            if self._connection.is_open(call):
                running.go_on()
            else:  # the guest has lost a part of its answer
                self._cancel(call)
                self._tell_end(call, error=_NOT_KEPT)

    def _on_grace_over(self) -> None:
        self.close(ConnectionLost("the guest has left"))

    def _end_absence(self) -> None:
        if self._away_bytes is not None:
            self._away.leave(self._guest, self._away_bytes)
            self._away_bytes = None

    def _break_off(self, call: int, error: BridgeError) -> None:
        self._tell_end(call, error=error)
        self._connection.break_off(call, error)

    def _on_closed(self, event: Closed) -> None:
        self._timer.cancel()
        self._end_absence()
        if event.error is not None and self._connection.peer is None:
            transport = self.driver.transport
            where = self._describe_peer(transport) if transport is not None else "gone"
            log.warning("a guest (%s) was refused: %r", where, event.error.message)
        for call in list(self._running):
            self._cancel(call)
        for call in list(self._requests):
            self._tell_end(call, error=ConnectionLost("the guest has left"))
        for timer in self._deadlines.values():
            timer.cancel()
        self._deadlines.clear()

    def _on_connection_lost(self) -> None:
        if self.is_away:
            return
        self._timer.cancel()
        if self._drain is not None:
            self._drain.cancel()
        if self._connection.peer is not None:
            log.info("guest %s left", self.peer, extra=fields(guest=self._guest_name))
            self._tell_guest("gone")
        self._on_lost(self)


def _new_resumption(grace_s: float) -> Resumption:
    return Resumption(os.urandom(LINK_BYTES), os.urandom(LINK_SECRET_BYTES), round(grace_s * 1000))
