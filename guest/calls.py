"""The calls of one connection: opens them, and hands each event to the call it belongs to."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import repeat
from time import perf_counter
from typing import Any

from mlxbridge.addresses import Address, TcpAddress
from mlxbridge.errors import BridgeError, Cancelled, ConnectionLost, Gone, LimitExceeded, TransportError
from mlxbridge.guest.call import Call
from mlxbridge.protocol.events import (
    Closed,
    Cut,
    DataReceived,
    ErrorReceived,
    GoawayReceived,
    ItemReceived,
    PongReceived,
    Ready,
    ResultReceived,
    Resumed,
    TokensReceived,
)
from mlxbridge.protocol.guest import GuestConnection
from mlxbridge.protocol.handshake import CHECKSUM, RESUME
from mlxbridge.protocol.limits import LARGE_PIECE_BYTES, Limits, Windows
from mlxbridge.protocol.parts import Part

LIMITS = Limits(max_piece_bytes=LARGE_PIECE_BYTES)
LEAVING = Cancelled("the guest has left")


def client_closed() -> ConnectionLost:
    """What calls end with when their own client is closed."""
    return ConnectionLost("the client was closed", advice="it stays closed: make another one")


NO_PAYLOADS = Windows(bytes=0)
"""For calls whose answer has none: a payload that comes all the same ends the connection before it takes memory."""

_TELL_APART = frozenset({"tools", "reasoning", "max_reasoning_tokens"})
"""Params of generate that let a row have parts (SPEC.md §10)."""

_ENDS = (ResultReceived, ErrorReceived)
_PARTS = (ItemReceived, DataReceived)


def features_for(address: Address) -> frozenset[str]:
    """What to ask of a host there: over TCP bytes may be changed under way, by relays for one."""
    return frozenset({RESUME, CHECKSUM} if isinstance(address, TcpAddress) else {RESUME})


class Calls:
    """Owned by a link, which does the I/O and calls ``dispatch`` after each read."""

    def __init__(self, connection: GuestConnection, address: str) -> None:
        self.connection = connection
        self.address = address
        self.ready: Ready | None = None
        self.closed: BridgeError | None = None
        self.goaway: BridgeError | None = None  # why the host takes no more calls
        self.pings: dict[bytes, bool] = {}  # bodies that were sent, and whether they have come back
        self._open: dict[int, Call] = {}
        self._told_apart: dict[int, Call] = {}  # of the open calls those whose rows may have parts
        self._dropped: deque[Call] = deque()  # by garbage collection, which comes at any moment

    @property
    def usable(self) -> bool:
        """Whether new calls may still go over this connection."""
        return self.closed is None and not self.connection.draining

    @property
    def max_head_bytes(self) -> int:
        """How large the arguments of a call may be, with what goes beside them."""
        peer = self.connection.peer
        return 0 if peer is None else peer.limits.max_head_bytes

    def check_count(self, count: int) -> None:
        """Refuse what could never be opened at once.

        Raises:
            LimitExceeded: the host allows fewer calls.
        """
        peer = self.connection.peer
        if peer is not None and count > peer.limits.max_calls:
            raise LimitExceeded(f"{count} calls at once, but the host allows {peer.limits.max_calls}")

    def open(self, method: str, params: Mapping[str, Any], deadline_ms: int | None, windows: Windows) -> Call:
        """Start a call (``GuestConnection.open_call`` says what it raises)."""
        number = self.connection.open_call(method, params, deadline_ms=deadline_ms, windows=windows)
        call = self._open[number] = Call(
            number,
            method,
            wants_logprobs=method == "generate" and params.get("logprobs") is not None,
            wants_parts=method == "generate" and not _TELL_APART.isdisjoint(params),
            timeout_s=None if deadline_ms is None else deadline_ms / 1000,
        )
        if call.parts is not None:
            self._told_apart[number] = call
        return call

    def give_up(self, call: Call, error: BridgeError) -> None:
        """End a call from this side, and tell the host to stop."""
        if self._remove(call.number) is not None:
            self.connection.cancel(call.number)
        call.fail(error)
        self._end_if_abandoned(ConnectionLost("the link was cut, and nobody waited for it any more"))

    def drop(self, call: Call) -> None:
        """Note that nobody has the call any more, for ``sweep``; at any moment, in any thread."""
        self._dropped.append(call)

    def sweep(self) -> bool:
        """Give up the calls that were dropped; whether there were any."""
        found = bool(self._dropped)
        while self._dropped:
            call = self._dropped.popleft()
            if not call.ended:
                self.give_up(call, ConnectionLost("the stream was dropped"))
        return found

    def come_back(self, nonce: bytes) -> None:
        """Go on over a new transport, where the old one was cut (``GuestConnection.come_back``)."""
        self.connection.come_back(nonce, self._time_left_ms)

    def ping(self, body: bytes) -> None:
        """Send a PING, now or once the host can be reached again."""
        self.pings[body] = False
        if self.connection.ready:
            self.connection.ping(body)

    def return_credit(self, call: Call) -> None:
        """Tell the connection what was taken; worth it once ``call.taken`` is ``TAKE_BATCH``."""
        self.connection.consume(call.number, items=call.taken)
        call.taken = 0

    def dispatch(self) -> bool:
        """Hand out the connection's events; whether there were any."""
        events = self.connection.events()
        for event in events:
            if type(event) is TokensReceived:
                self._dispatch_tokens(event)
            else:
                self._dispatch_rare(event)
        return bool(events)

    def _dispatch_tokens(self, event: TokensReceived) -> None:
        now = perf_counter()
        calls = self._open
        if event.logprobs is not None:
            self._dispatch_logprobs(event.calls, event.logprobs)
        if self._told_apart:
            self._dispatch_parts(event.calls, event.parts or repeat(None))
        for call, ids, text in zip(map(calls.get, event.calls), event.token_ids, event.texts, strict=True):
            if call is None or not call.wants_tokens:  # given up a moment ago, or not for anybody to take
                continue
            if not call.first_at:
                call.first_at = now
            call.last_at = now
            call.token_ids.append(ids)
            call.texts.append(text)
            news = call.news
            if news is not None:
                news()

    def _dispatch_logprobs(self, numbers: list[int], column: list[list[bytes] | None]) -> None:
        for call, logprobs in zip(map(self._open.get, numbers), column, strict=True):
            if call is not None and call.logprobs is not None and logprobs is not None:
                call.logprobs += logprobs

    def _dispatch_parts(self, numbers: list[int], column: Iterable[list[Part] | None]) -> None:
        for call, parts in zip(map(self._told_apart.get, numbers), column, strict=False):
            if call is not None and call.parts is not None:
                call.parts.append(parts)

    def _remove(self, number: int) -> Call | None:
        self._told_apart.pop(number, None)
        return self._open.pop(number, None)

    def _dispatch_rare(self, event: object) -> None:
        if isinstance(event, _ENDS):
            call = self._remove(event.call)
            if call is None:
                return
            if isinstance(event, ResultReceived):
                if not call.first_at:  # its only token was the end
                    call.first_at = call.last_at = perf_counter()
                call.result = event.result
            else:
                call.error = event.error
            if call.news is not None:
                call.news()
        elif isinstance(event, _PARTS):
            call = self._open.get(event.call)
            if call is None or call.wants_tokens:
                return
            if isinstance(event, ItemReceived):
                call.items.append(event.value)
            else:
                call.payloads.append(event)
            if call.news is not None:
                call.news()
        elif isinstance(event, Ready):
            self.ready = event
        elif isinstance(event, PongReceived):
            if event.body in self.pings:  # what nobody asked for is not kept
                self.pings[event.body] = True
        elif isinstance(event, Cut):
            self._end_if_abandoned(event.error)
        elif isinstance(event, Resumed):
            for body, has_come_back in self.pings.items():
                if not has_come_back:
                    self.connection.ping(body)
        elif isinstance(event, Closed):
            self.fail(event.error or ConnectionLost(f"the connection to {self.address} was closed"))
        else:
            assert isinstance(event, GoawayReceived)  # ``usable`` is false from now on
            self.goaway = event.error

    def _time_left_ms(self, number: int) -> int | None:
        call = self._open.get(number)
        return None if call is None else call.time_left_ms

    def _end_if_abandoned(self, error: BridgeError) -> None:
        """There is nothing to come back for, if no call waits."""
        if self.connection.cut and not self._open and not self.pings:
            self.connection.close()
            self.connection.events()
            self.fail(error)

    def fail(self, error: BridgeError) -> None:
        """The connection is gone: so are its calls."""
        if self.closed is None:
            self.closed = error
        calls, self._open, self._told_apart = self._open, {}, {}
        for call in calls.values():
            lost = error
            if isinstance(error, TransportError):
                kind = Gone if isinstance(error, Gone) else ConnectionLost
                lost = kind(
                    f"{self.address}: {error.message}, while {call.method} was running",
                    advice=error.advice or None,
                )
                lost.__cause__ = error
                if not call.has_begun:
                    lost.details = {"repeatable": True}
            call.fail(lost)
