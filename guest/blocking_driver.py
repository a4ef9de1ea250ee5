"""A connection driven by the threads that wait on it: no background thread, no event loop.

What ``transport.driver`` is on a loop. Whoever waits reads the socket, for everybody (``Leadership``). A link that was cut is
mended by whoever waits, in the same way: the leader dials again, and the others see no difference. If nobody waits, nobody
does.

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
from collections.abc import Callable
from time import monotonic

from mlxbridge.addresses import Address
from mlxbridge.errors import ConnectionLost, DeadlineExceeded, TransportError
from mlxbridge.guest.calls import LEAVING, Calls, client_closed
from mlxbridge.guest.comeback import Comeback
from mlxbridge.guest.leadership import Leadership
from mlxbridge.guest.wire import Wire
from mlxbridge.protocol.guest import GuestConnection
from mlxbridge.protocol.handshake import NONCE_BYTES
from mlxbridge.protocol.limits import HANDSHAKE_TIMEOUT_S, KEEPALIVE_INTERVAL_S
from mlxbridge.transport.dial import dial_blocking

_LEAVE_S = 0.25
_STALE_AFTER_S = 0.1  # a link that nobody has read from for longer is looked at before it is used


class BlockingDriver:
    """Does the I/O of one connection, and tells its calls of what comes.

    Args:
        sock: connected.
        calls: of the connection.
        address: where to dial again.
        connect_timeout: seconds for each time.

    Attributes:
        mutex: is held around everything but ``look``, ``abandon`` and what only reads.
    """

    def __init__(
        self,
        sock: socket.socket,
        connection: GuestConnection,
        calls: Calls,
        address: Address,
        connect_timeout: float,
    ) -> None:
        self.mutex = threading.Lock()
        self._connection = connection
        self._calls = calls
        self._address = address
        self._connect_timeout = connect_timeout
        self._wire = Wire(sock, connection)
        self._leadership = Leadership(self.mutex)
        self._comeback = Comeback(address)
        self._read_at = 0.0
        self._tick_at = 0.0  # when it is time for the next keepalive, or to give a handshake up
        self._is_mending = False  # since it was cut, until it can be used again

    def wait(self, done: Callable[[], bool], deadline: float | None) -> bool:
        """Read, or let others read, until ``done()``; False when the link closed or the deadline came first."""
        return self._leadership.wait(done, deadline, self._lead, self._is_over)

    def look(self) -> None:
        """Take the mutex and read what came while nobody looked, a GOAWAY perhaps."""
        if monotonic() - self._read_at > _STALE_AFTER_S:
            with self.mutex:
                if not (self._leadership.is_taken or self._connection.closed):
                    self._take_in()

    def flush(self) -> None:
        """Send what the connection has and the socket takes."""
        try:
            self._wire.write()
            if self._connection.closed:
                self._calls.dispatch()
        except OSError as error:
            self._read_last_words()
            self._connection.receive_eof()
            if not self._connection.cut:
                self.give_up(f"sending failed: {error}")
            self._calls.dispatch()
        except BaseException:
            self.give_up("interrupted while sending")
            raise
        if self._is_over():
            self._hang_up()

    def push(self, method: str, deadline: float | None) -> None:
        """Wait until what the socket did not take at once has left; the host's patience is not the caller's.

        Raises:
            DeadlineExceeded: it has not, at ``deadline``.
        """
        while self._wire.unsent and not self._connection.closed:
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                raise DeadlineExceeded(f"{method}: the host did not take the arguments within the timeout")
            self._leadership.without_mutex(self._wire.await_room, left)
            self.flush()

    def sweep(self) -> None:
        """Cancel the calls that were garbage-collected."""
        if self._calls.sweep():
            self.flush()

    def give_up(self, reason: str) -> None:
        """End the link: every call fails, every thread learns of it."""
        self._connection.close()
        self._calls.fail(ConnectionLost(reason))
        self._hang_up()

    def leave(self) -> None:
        """Have the host end the calls, and not wait for this guest to come back; it is given a moment to read that."""
        if not self._is_over():
            self._connection.leave(LEAVING)
            self._calls.fail(client_closed())
            with contextlib.suppress(OSError):
                self._wire.write()
                if self._connection.lingering and not self._wire.unsent:
                    self._wire.await_end(_LEAVE_S)

    def close(self) -> None:
        """``leave``, and close the socket; threads that wait get ConnectionLost."""
        self.leave()
        self._hang_up()

    def abandon(self) -> None:
        """Close the socket without a word, for nobody waits on it."""
        self._wire.close()

    # ------------------------------------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        return self._calls.closed is not None

    def _lead(self, timeout: float | None) -> None:
        now = monotonic()
        if now >= self._tick_at:
            self._tick_at = now + KEEPALIVE_INTERVAL_S
        until_tick = self._tick_at - now
        news = False
        self._leadership.is_taken = True
        try:
            if self._connection.cut:
                self._mend(timeout)
            else:
                wait_s = until_tick if timeout is None else min(timeout, until_tick)
                news = self._leadership.without_mutex(self._wire.await_news, wait_s)
        finally:
            self._leadership.is_taken = False
        if self._is_over():
            self._hang_up()  # another thread closed the link, and left the socket to the one that waited on it
        elif news:
            self._take_in()
        elif monotonic() >= self._tick_at:
            self._tick()

    def _take_in(self) -> None:
        """Read what there is and hand it out; send what that has set free."""
        try:
            count = self._wire.read()
            self._read_at = monotonic()
            if count and not self._connection.received(count) and not self._wire.unsent:
                return
            if count == 0:
                self._connection.receive_eof()
            if self._calls.dispatch():
                self._leadership.wake(is_over=self._is_over())
            if self._is_mending and self._connection.ready:
                self._is_mending = False
        except BaseException:
            self.give_up("interrupted while receiving")
            raise
        self.sweep()
        self.flush()

    def _tick(self) -> None:
        """Nothing has come for a while."""
        if self._connection.handshaking and self._is_mending:
            self._connection.receive_eof()
        else:
            self._connection.keepalive()
        self._calls.dispatch()
        self.flush()

    def _read_last_words(self) -> None:
        """The host closed while this end was sending: what it said before may still lie there."""
        while not (self._leadership.is_taken or self._connection.closed) and (count := self._wire.read()):
            self._connection.received(count)
            self._calls.dispatch()

    def _hang_up(self) -> None:
        """The link is over: close the socket, or wake the thread that waits on it, which then does."""
        if self._leadership.is_taken:
            self._wire.shut_down()
        else:
            self._wire.close()
        self._leadership.wake(is_over=self._is_over())

    # -- coming back -------------------------------------------------------------------------------------------

    def _mend(self, timeout: float | None) -> None:
        """Dial again, once; or give the link up."""
        self._wire.shut_down()  # whoever waits for room on it must learn that there will be none
        comeback, connection, now = self._comeback, self._connection, monotonic()
        if not self._is_mending:
            self._is_mending = True
            comeback.begin(now, (connection.grace_ms or 0) / 1000, connection.num_received)
        delay = comeback.next_delay(now)
        if delay is None:
            connection.close()
            self._calls.fail(comeback.reason)
        elif timeout is not None and timeout < delay:
            self._leadership.without_mutex(_sleep, timeout)
        else:
            self._dial(delay, timeout)

    def _dial(self, delay: float, timeout: float | None) -> None:
        dialled: list[socket.socket] = []

        def dial(left: float | None) -> bool:
            time.sleep(delay)
            limit = self._comeback.until - monotonic() if left is None else left - delay
            try:
                dialled.append(dial_blocking(self._address, max(0.001, min(limit, self._connect_timeout))))
            except TransportError as error:
                self._comeback.failed(error)
            return bool(dialled)

        if self._leadership.without_mutex(dial, timeout):
            self._comeback.reached()
            self._wire.close()
            self._wire = Wire(dialled[0], self._connection)
            if self._connection.cut:  # nobody has closed it meanwhile
                self._calls.come_back(os.urandom(NONCE_BYTES))
                self._tick_at = monotonic() + HANDSHAKE_TIMEOUT_S
                self.flush()


def _sleep(seconds: float | None) -> bool:
    time.sleep(seconds or 0)
    return False
