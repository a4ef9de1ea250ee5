"""One connection driven by the threads that call it: no background thread, no event loop.

Whoever waits for something reads the socket, for everybody (leader and followers): a thread that finds nobody reading
becomes the leader and hands out what comes in; the others sleep on their own condition until their call has news or the
leader leaves, and whoever leaves, for whatever reason, sees to it that somebody reads on.

A link that was cut is mended by whoever waits, in the same way: the leader dials again, and the others see no difference. If
nobody waits, nobody does.

One mutex guards everything. It is released only to wait, and nothing blocks under it. A KeyboardInterrupt while waiting
harms nothing; one that comes while bytes are on their way between socket, connection and calls may have lost some of
them, so the link is given up and the next call opens a new one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic
from typing import Any

from mlxbridge import __version__
from mlxbridge.addresses import Address
from mlxbridge.errors import (
    BridgeError,
    ConnectionLost,
    DeadlineExceeded,
    Gone,
    HandshakeTimeout,
    TransportError,
    UsageError,
)
from mlxbridge.guest.call import TAKE_BATCH, Call
from mlxbridge.guest.calls import LEAVING, LIMITS, Calls, features_for
from mlxbridge.guest.comeback import Comeback, as_lost
from mlxbridge.guest.link import Link
from mlxbridge.guest.memory import allocate
from mlxbridge.guest.wire import Wire
from mlxbridge.protocol.guest import GuestConnection
from mlxbridge.protocol.handshake import NONCE_BYTES, Token
from mlxbridge.protocol.limits import HANDSHAKE_TIMEOUT_S, KEEPALIVE_INTERVAL_S, Windows
from mlxbridge.transport.dial import dial_blocking

SOFTWARE = f"mlxbridge/{__version__}"
_STALE_AFTER_S = 0.1  # a link that nobody has read from for longer is looked at before it is used


class BlockingLink(Link):
    """Safe for use from many threads."""

    def __init__(
        self,
        sock: socket.socket,
        address: Address,
        token: Token | None,
        connect_timeout: float = HANDSHAKE_TIMEOUT_S,
    ) -> None:
        self.pid = os.getpid()
        self._connection = GuestConnection(
            software=SOFTWARE,
            limits=LIMITS,
            nonce=os.urandom(NONCE_BYTES),
            features=features_for(address),
            token=token,
            passive=True,
            allocate=allocate,
        )
        self._address = address
        self._connect_timeout = connect_timeout
        self._wire = Wire(sock, self._connection)
        self._calls = Calls(self._connection, str(address))
        self._mutex = threading.Lock()
        self._reading = False  # whether a thread is waiting for news, and so will read what comes
        self._read_at = 0.0
        self._tick_at = 0.0  # when it is time for the next keepalive, or to give a handshake up
        self._comeback: Comeback | None = None  # once the link was cut for the first time
        self._is_mending = False  # since it was cut, until it can be used again
        self._reason: BridgeError = ConnectionLost("the link was cut")  # why it could not be mended yet
        self._followers: dict[threading.Condition, Callable[[], bool]] = {}
        self._dropped: deque[Call] = deque()  # calls that garbage collection gave up, perhaps under the mutex

    @property
    def software(self) -> str:
        """What the host says that it is, once hands have been shaken."""
        ready = self._calls.ready
        return "" if ready is None else ready.peer.software

    def shake_hands(self, timeout: float) -> None:
        """Say HELLO and wait for the host's READY.

        Raises:
            HandshakeTimeout, AuthenticationError, VersionMismatch, RemoteProtocolError, ConnectionLost
        """
        timeout = min(timeout, HANDSHAKE_TIMEOUT_S)
        calls = self._calls
        with self._mutex:
            self._flush()
            if not self._wait(lambda: calls.ready is not None, monotonic() + timeout):
                raise calls.closed or HandshakeTimeout(
                    f"{self.address} accepted the connection but did not say HELLO within {timeout:g} s"
                )

    def refresh(self) -> bool:
        """Read what came while nobody looked, a GOAWAY perhaps; whether the link is still usable."""
        if self.usable and monotonic() - self._read_at > _STALE_AFTER_S:
            with self._mutex:
                if not (self._reading or self._connection.closed):
                    self._take_in()
        return self.usable

    def open(
        self,
        method: str,
        params: Sequence[Mapping[str, Any]],
        windows: Windows,
        deadline_ms: int | None,
        deadline: float | None,
    ) -> list[Call]:
        """Start a call for each of ``params``, all in one write, as soon as the host allows so many more.

        Raises:
            DeadlineExceeded: not enough came free, or the arguments did not leave, in time.
            ConnectionLost: the link is broken, and no call was started.
            BridgeError: the arguments are too large or cannot be sent, or the host never allows so many calls.
        """
        connection, count = self._connection, len(params)
        with self._mutex:
            self._sweep()
            self._calls.check_count(count)
            if connection.num_openable < count:
                self._wait(lambda: connection.num_openable >= count or not self.usable, deadline)
            if self._calls.closed is not None:
                raise self._calls.closed
            if not self.usable:
                raise ConnectionLost(f"{self.address}: the host is going away")
            if connection.num_openable < count:
                raise DeadlineExceeded(
                    f"{method}: no call could be opened within {(deadline_ms or 0) / 1000:g} s"
                )
            calls: list[Call] = []
            try:
                for each in params:
                    calls.append(self._calls.open(method, each, deadline_ms, windows))
                self._flush()
                if self._wire.unsent:
                    self._push(method, deadline)
                for call in calls:
                    if call.error is not None:  # refused before the last one had left, or the link broke
                        raise call.error
            except BaseException as error:
                for call in calls:
                    self._calls.give_up(call, ConnectionLost(f"{method} was interrupted"))
                if not isinstance(error, BridgeError):
                    self._break("interrupted while sending")
                elif self._calls.closed is None:
                    self._flush()
                raise
            return calls

    def wait(self, call: Call, deadline: float | None) -> None:
        """Return when the call has something to take.

        Raises:
            DeadlineExceeded: it has not, at ``deadline`` (of ``time.monotonic``); the call was given up.
            UsageError: the call belongs to the process that forked this one.
        """
        if not call.readable:
            self._wait_for((call,), lambda: call.readable, deadline)

    def wait_any(self, calls: Collection[Call], deadline: float | None) -> None:
        """As ``wait``, until any of the calls has something to take; at ``deadline`` all are given up."""

        def readable() -> bool:
            return any(call.readable for call in calls)

        if not readable():
            self._wait_for(calls, readable, deadline)

    def return_credit(self, call: Call) -> None:
        """Tell the host what was taken; worth it once ``call.taken`` is ``TAKE_BATCH``."""
        self._check_process()
        with self._mutex:
            self._calls.return_credit(call)
            self._flush()

    def take_item(self, call: Call) -> Any:
        """The next stream item of a readable call, None if only its end is left."""
        if not call.items:
            return None
        item = call.items.popleft()  # no mutex: one thread reads a call, and a deque may be filled meanwhile
        call.taken += 1
        if call.taken >= TAKE_BATCH:
            self.return_credit(call)
        return item

    def give_up(self, call: Call, error: BridgeError) -> None:
        """End the call here and cancel it at the host."""
        if self.pid != os.getpid():  # a fork's copy: the call is the parent's
            return
        with self._mutex:
            if not call.ended:
                self._calls.give_up(call, error)
                self._flush()

    def drop(self, call: Call) -> None:
        """As ``give_up``, for a finalizer: never blocks, whatever this thread holds."""
        if self.pid != os.getpid():
            return
        self._dropped.append(call)
        if self._mutex.acquire(blocking=False):
            try:
                self._sweep()
            finally:
                self._mutex.release()

    def ping(self, deadline: float | None) -> None:
        """Wait for the host to answer a PING.

        Raises:
            DeadlineExceeded: it did not.
        """
        body = os.urandom(8)
        calls = self._calls
        with self._mutex:
            if calls.closed is not None:
                raise calls.closed
            try:
                calls.ping(body)
                self._flush()
                if not self._wait(lambda: calls.pings[body], deadline):
                    raise calls.closed or DeadlineExceeded("ping: no answer within the timeout")
            finally:
                calls.pings.pop(body, None)

    def close(self) -> None:
        """Cancel what is open and close the socket; threads that wait get ConnectionLost."""
        with self._mutex:
            self._leave()
            self._hang_up()

    def abandon(self) -> None:
        """Forget the socket without a word to the host: it belongs to the process that forked this one."""
        self._wire.close()

    def __del__(self) -> None:
        if self.pid == os.getpid():
            self._leave()
        self._wire.close()

    def _leave(self) -> None:
        """Have the host end the calls, and not wait for this guest to come back."""
        if self._calls.closed is None:
            self._connection.leave(LEAVING)
            with contextlib.suppress(OSError):
                self._wire.write()
            self._calls.fail(ConnectionLost("the client was closed"))

    def _check_process(self) -> None:
        if self.pid != os.getpid():
            raise UsageError("this stream belongs to the process that forked this one; start a new one here")

    def _wait_for(self, calls: Collection[Call], done: Callable[[], bool], deadline: float | None) -> None:
        self._check_process()
        with self._mutex:
            self._sweep()
            if not self._wait(done, deadline):
                for call in calls:
                    error = call.late()
                    self._calls.give_up(call, error)
                self._flush()
                raise error

    # -- under the mutex ---------------------------------------------------------------------------------------

    def _wait(self, done: Callable[[], bool], deadline: float | None) -> bool:
        """Lead or follow until ``done()``; False when the link closed or the deadline came first."""
        try:
            while not done():
                left = None if deadline is None else deadline - monotonic()
                if self._calls.closed is not None or (left is not None and left <= 0):
                    return False
                if self._reading:
                    self._follow(done, left)
                else:
                    self._lead(left)
            return True
        finally:
            if self._followers and not self._reading:
                self._hand_over()

    def _follow(self, done: Callable[[], bool], timeout: float | None) -> None:
        condition = threading.Condition(self._mutex)
        self._followers[condition] = done
        try:
            condition.wait(timeout)
        finally:
            self._followers.pop(condition, None)

    def _lead(self, timeout: float | None) -> None:
        now = monotonic()
        if now >= self._tick_at:
            self._tick_at = now + KEEPALIVE_INTERVAL_S
        until_tick = self._tick_at - now
        news = False
        self._reading = True
        try:
            if self._connection.cut:
                self._mend(timeout)
            else:
                wait_s = until_tick if timeout is None else min(timeout, until_tick)
                news = self._without_mutex(self._wire.await_news, wait_s)
        finally:
            self._reading = False
        if self._calls.closed is not None:
            self._hang_up()  # another thread closed the link, and left the socket to the one that waited on it
        elif news:
            self._take_in()
        elif monotonic() >= self._tick_at:
            self._tick()

    def _tick(self) -> None:
        """Nothing has come for a while."""
        if self._connection.handshaking and self._is_mending:
            self._connection.receive_eof()
        else:
            self._connection.keepalive()
        self._calls.dispatch()
        self._flush()

    def _mend(self, timeout: float | None) -> None:
        """Dial again, once; or give the link up."""
        self._wire.shut_down()  # whoever waits for room on it must learn that there will be none
        now = monotonic()
        if self._comeback is None:
            self._comeback = Comeback((self._connection.grace_ms or 0) / 1000)
        if not self._is_mending:
            self._is_mending = True
            self._comeback.begin(now, self._connection.num_received)
        comeback, delay = self._comeback, self._comeback.next_delay(now)
        if delay is None or isinstance(self._reason, Gone):
            self._connection.close()
            self._calls.fail(self._reason)
            return
        if timeout is not None and timeout < delay:
            self._without_mutex(_sleep, timeout)
            return
        dialled: list[socket.socket] = []

        def dial(left: float | None) -> bool:
            time.sleep(delay)
            limit = comeback.until - monotonic() if left is None else left - delay
            try:
                dialled.append(dial_blocking(self._address, max(0.001, min(limit, self._connect_timeout))))
            except TransportError as error:
                self._reason = as_lost(self._address, error)
            return bool(dialled)

        if self._without_mutex(dial, timeout):
            self._wire.close()
            self._wire = Wire(dialled[0], self._connection)
            if self._connection.cut:  # nobody has closed it meanwhile
                self._calls.come_back(os.urandom(NONCE_BYTES))
                self._tick_at = monotonic() + HANDSHAKE_TIMEOUT_S
                self._flush()

    def _without_mutex(self, wait: Callable[[float | None], bool], timeout: float | None) -> bool:
        try:
            self._mutex.release()  # inside the try: an interrupt right behind it must find the mutex taken again
            return wait(timeout)
        finally:
            self._mutex.acquire()

    def _take_in(self) -> None:
        """Read what there is and hand it out; send what that has set free."""
        try:
            count = self._wire.read()
            self._read_at = monotonic()
            if count and not self._connection.received(count) and not self._wire.unsent:
                return
            if count == 0:
                self._connection.receive_eof()
            if self._calls.dispatch() and self._followers:
                self._wake()
            if self._is_mending and self._connection.ready:
                self._is_mending = False
        except BaseException:
            self._break("interrupted while receiving")
            raise
        self._sweep()
        self._flush()

    def _flush(self) -> None:
        try:
            self._wire.write()
            if self._connection.closed:
                self._calls.dispatch()
        except OSError as error:
            self._read_last_words()
            self._connection.receive_eof()
            if not self._connection.cut:
                self._break(f"sending failed: {error}")
            self._calls.dispatch()
        except BaseException:
            self._break("interrupted while sending")
            raise
        if self._calls.closed is not None:
            self._hang_up()

    def _push(self, method: str, deadline: float | None) -> None:
        """Wait until what the socket did not take at once has left; the host's patience is not the caller's."""
        while self._wire.unsent and not self._connection.closed:
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                raise DeadlineExceeded(f"{method}: the host did not take the arguments within the timeout")
            self._without_mutex(self._wire.await_room, left)
            self._flush()

    def _read_last_words(self) -> None:
        """The host closed while this end was sending: what it said before may still lie there."""
        while not (self._reading or self._connection.closed) and (count := self._wire.read()):
            self._connection.received(count)
            self._calls.dispatch()

    def _break(self, reason: str) -> None:
        """Give the link up: every call fails, every thread learns of it."""
        self._connection.close()
        self._calls.fail(ConnectionLost(reason))
        self._hang_up()

    def _hang_up(self) -> None:
        """The link is over: close the socket, or wake the thread that waits on it, which then does."""
        if self._reading:
            self._wire.shut_down()
        else:
            self._wire.close()
        self._wake()

    def _wake(self) -> None:
        """Wake the followers that have news."""
        for condition, done in self._followers.items():
            if self._calls.closed is not None or done():
                condition.notify()

    def _hand_over(self) -> None:
        """Nobody reads now: one of those that still wait must."""
        for condition, done in self._followers.items():
            if not done():
                condition.notify()
                return

    def _sweep(self) -> None:
        """Cancel the calls that were garbage-collected."""
        if not self._dropped:
            return
        while self._dropped:
            call = self._dropped.popleft()
            if not call.ended:
                self._calls.give_up(call, ConnectionLost("the stream was dropped"))
        self._flush()


def _sleep(seconds: float | None) -> bool:
    time.sleep(seconds or 0)
    return False


def connect(address: Address, token: Token | None, timeout: float) -> BlockingLink:
    """Dial and shake hands.

    Raises:
        TransportError: nobody there, or not an mlxbridge host.
        AuthenticationError, VersionMismatch: the host and this guest do not go together.
    """
    deadline = monotonic() + timeout
    link = BlockingLink(dial_blocking(address, timeout), address, token, timeout)
    try:
        link.shake_hands(max(0.001, deadline - monotonic()))
    except BaseException:
        link.close()
        raise
    return link
