"""The calls that one guest has open: opens them, and is the sink of their answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from mlxbridge.errors import (
    BridgeError,
    ConnectionLost,
    DeadlineExceeded,
    Gone,
    InternalError,
    LimitExceeded,
    LocalProtocolError,
)
from mlxbridge.host.engine.interface import Origin
from mlxbridge.host.models.job import GUEST_LEAD_S
from mlxbridge.host.server.guest import Guest
from mlxbridge.host.server.running import Running, Work
from mlxbridge.host.telemetry.request import Request
from mlxbridge.host.telemetry.telemetry import Telemetry
from mlxbridge.logs import fields
from mlxbridge.protocol.events import CallOpened
from mlxbridge.protocol.host import HostConnection
from mlxbridge.protocol.parts import Part

log = logging.getLogger(__name__)

MAX_HELD_PAYLOAD_BYTES = 1 << 30
"""Payloads that calls of one connection may hold back; past it, each call fails that would hold back more.

What is still in the worker counts: the front itself holds at most ``models.worker.PAYLOAD_WINDOW_BYTES`` of each call. Over all
connections there is no other bound than their number.
"""

_NOT_KEPT = Gone("the link broke under a call whose answer is not kept", details={"repeatable": True})


class Methods(Protocol):
    """What answers calls (``server.methods``)."""

    def open(self, calls: GuestCalls, event: CallOpened) -> Running | None:
        """Start a call; what may be done to it, if that is more than to forget about it.

        Raises:
            BridgeError: the call is refused.
        """


class GuestCalls:
    """Those of one connection, by their number on it.

    Args:
        connection: over which they come and are answered; ``flush`` writes what it has.
        methods: answers them.
        telemetry: is told of each.
        guest: whose they are.
        flush: see there.

    Attributes:
        guest: as it is known once it has shaken hands.
        peer: who that is, for the log.
    """

    def __init__(
        self,
        connection: HostConnection,
        methods: Methods,
        telemetry: Telemetry,
        guest: Guest,
        flush: Callable[[], None],
    ) -> None:
        self.guest = guest
        self.peer = "a guest"
        self._connection = connection
        self._methods = methods
        self._telemetry = telemetry
        self._flush = flush
        self._loop = asyncio.get_running_loop()
        self._requests: dict[int, Request] = {}
        self._running: dict[int, Running] = {}
        self._credit_listeners: dict[int, Callable[[int], object]] = {}
        self._deadlines: dict[int, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- for the methods ---------------------------------------------------------------------------------------

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
        """For whom a call is run, if it came now; and with which adapter.

        Guests that share a token use each other's cached prefixes; without tokens all use what any has left.
        """
        request = self._requests.get(call)
        return Origin(
            guest=self.guest.key,
            cache_scope=self.guest.identity or "",
            adapter=adapter,
            deadline_at=None if deadline_ms is None else time.monotonic() + deadline_ms / 1000,
            request_id="" if request is None else request.request_id,
        )

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
        """Write what the above has left."""
        self._flush()

    # -- for the session ---------------------------------------------------------------------------------------

    def open(self, event: CallOpened) -> None:
        """The guest makes a call."""
        call = event.call
        request = self._telemetry.begin(
            event.method, event.params, guest=self.guest.name, owner=self.guest.identity
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

    def cancel(self, call: int) -> None:
        """The guest has given a call up."""
        timer = self._deadlines.get(call)
        is_late = timer is not None and timer.when() - self._loop.time() <= GUEST_LEAD_S
        self._stop(call)
        if is_late:  # the guest was the first to see it
            self._tell_end(
                call, error=DeadlineExceeded("the call's time was over, and the guest cancelled it")
            )
        self.finish(call, {"finish_reason": "cancelled"})

    def tell_credit(self) -> None:
        """The guest may have given more of it."""
        for call, tell in self._credit_listeners.items():
            tell(self._connection.items_granted(call))

    def hold(self) -> None:
        """Their guest is away: nothing is computed meanwhile. Those that cannot wait end."""
        for call, running in list(self._running.items()):
            if running.hold is not None and not running.hold():
                self._stop(call)
                self._tell_end(call, error=_NOT_KEPT)
                self._connection.break_off(call, _NOT_KEPT)

    def go_on(self) -> None:
        """Their guest is back."""
        for call, running in list(self._running.items()):
            if self._connection.is_open(call):
                running.go_on()
            else:  # the guest has lost a part of its answer
                self._stop(call)
                self._tell_end(call, error=_NOT_KEPT)

    def end(self, error: BridgeError) -> None:
        """Stop all, and tell the guest why."""
        for call in list(self._running):
            self._stop(call)
            self.fail(call, error)

    def abandon(self) -> None:
        """Stop all: there is nobody to tell."""
        for call in list(self._running):
            self._stop(call)
        for call in list(self._requests):
            self._tell_end(call, error=ConnectionLost("the guest has left"))
        for timer in self._deadlines.values():
            timer.cancel()
        self._deadlines.clear()

    # ------------------------------------------------------------------------------------------------------------

    def _stop(self, call: int) -> None:
        running = self._running.get(call)
        self._forget(call)
        if running is not None:
            running.cancel()

    def _cancel_if_refused(self, call: int) -> None:
        """Stop a call that the connection has ended, since it holds back too much, or what the guest does not take."""
        if not self._connection.is_open(call):
            self._stop(call)
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
        self._stop(call)
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
