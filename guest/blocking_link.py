"""One connection driven by the threads that call it: no background thread, no event loop.

Whoever waits for something reads the socket, for everybody (leader and followers): a thread that finds nobody reading
becomes the leader and hands out what comes in; the others sleep on their own condition until their call has news or the
leader leaves. One mutex guards the connection; it is never held while reading, and the host always reads, so that
writing under it ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from mlxbridge import __version__
from mlxbridge.addresses import Address
from mlxbridge.errors import BridgeError, ConnectionLost, DeadlineExceeded, HandshakeTimeout
from mlxbridge.guest.call import TAKE_BATCH, Call
from mlxbridge.guest.calls import Calls
from mlxbridge.guest.memory import allocate
from mlxbridge.protocol.codec import Buffer
from mlxbridge.protocol.guest import GuestConnection
from mlxbridge.protocol.handshake import NONCE_BYTES, Token
from mlxbridge.protocol.limits import HANDSHAKE_TIMEOUT_S
from mlxbridge.transport.dial import dial_blocking

SOFTWARE = f"mlxbridge/{__version__}"
_JOIN_BYTES = 64 * 1024


class BlockingLink:
    """Safe for use from many threads."""

    def __init__(self, sock: socket.socket, address: Address, token: Token | None) -> None:
        self.pid = os.getpid()
        self._socket = sock
        self._connection = GuestConnection(
            software=SOFTWARE, nonce=os.urandom(NONCE_BYTES), token=token, passive=True, allocate=allocate
        )
        self._calls = Calls(self._connection, str(address))
        self._mutex = threading.Lock()
        self._reading = False
        self._followers: dict[threading.Condition, Callable[[], bool]] = {}
        self._dropped: deque[Call] = deque()  # calls that garbage collection gave up, perhaps under the mutex

    @property
    def usable(self) -> bool:
        """Whether new calls may go over this link."""
        return self._calls.usable

    @property
    def address(self) -> str:
        """Where it leads."""
        return self._calls.address

    def shake_hands(self, timeout: float) -> None:
        """Say HELLO and wait for the host's READY.

        Raises:
            HandshakeTimeout, AuthenticationError, VersionMismatch, RemoteProtocolError, ConnectionLost
        """
        timeout = min(timeout, HANDSHAKE_TIMEOUT_S)
        calls = self._calls
        with self._mutex:
            self._flush()
            if not self._wait(
                lambda: calls.ready is not None or calls.closed is not None, monotonic() + timeout
            ):
                raise HandshakeTimeout(
                    f"{self.address} accepted the connection but did not say HELLO within {timeout:g} s"
                )
            if calls.closed is not None:
                raise calls.closed

    def open(
        self, method: str, params: Mapping[str, Any], deadline_ms: int | None, deadline: float | None
    ) -> Call:
        """Start a call, as soon as the host allows one more.

        Raises:
            DeadlineExceeded: none came free in time.
            BridgeError: the link is closed, or the arguments are too large.
        """
        with self._mutex:
            self._sweep()
            if not self._connection.can_open:
                self._wait(lambda: self._connection.can_open or not self.usable, deadline)
            if self._calls.closed is not None:
                raise self._calls.closed
            if not self.usable:
                raise ConnectionLost(f"{self.address}: the host is going away")
            if not self._connection.can_open:
                raise DeadlineExceeded(f"{method}: no call could be opened within the timeout")
            call = self._calls.open(method, params, deadline_ms)
            self._flush()
            return call

    def wait(self, call: Call, deadline: float | None) -> None:
        """Return when the call has something to take.

        Raises:
            DeadlineExceeded: it has not, at ``deadline`` (of ``time.monotonic``); the call was given up.
        """
        if call.readable:
            return
        with self._mutex:
            self._sweep()
            if not self._wait(lambda: call.readable, deadline):
                error = DeadlineExceeded(f"{call.method}: no end within the timeout")
                self._calls.give_up(call, error)
                self._flush()
                raise error

    def return_credit(self, call: Call) -> None:
        """Tell the host what was taken; worth it once ``call.taken`` is ``TAKE_BATCH``."""
        with self._mutex:
            self._calls.return_credit(call)
            self._flush()

    def take_item(self, call: Call) -> Any:
        """The next stream item of a readable call, None if only its end is left."""
        if not call.items:
            return None
        item = (
            call.items.popleft()
        )  # no mutex: a call is read by one thread, and a deque may be filled meanwhile
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
        with self._mutex:
            if self._calls.closed is not None:
                raise self._calls.closed
            calls = self._calls
            calls.pings[body] = False
            try:
                self._connection.ping(body)
                self._flush()
                if not self._wait(lambda: calls.pings[body] or calls.closed is not None, deadline):
                    raise DeadlineExceeded("ping: no answer within the timeout")
            finally:
                answered = calls.pings.pop(body)
            if calls.closed is not None and not answered:
                raise calls.closed

    def close(self) -> None:
        """Cancel what is open and close the socket; threads that wait get ConnectionLost."""
        with self._mutex:
            if self._calls.closed is None:
                self._connection.close()
                self._calls.fail(ConnectionLost("the client was closed"))
            self._flush()
            self._hang_up()
            self._wake()

    def abandon(self) -> None:
        """Forget the socket without a word to the host: it belongs to the process that forked this one."""
        self._socket.close()

    def __del__(self) -> None:
        self._socket.close()

    # -- under the mutex ---------------------------------------------------------------------------------------

    def _wait(self, done: Callable[[], bool], deadline: float | None) -> bool:
        """Lead or follow until ``done()``; False when the deadline came first."""
        led = False
        try:
            while not done():
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    return False
                if self._calls.closed is not None:
                    return done()
                if self._reading:
                    self._follow(done, left)
                else:
                    led = True
                    self._lead(left)
            return True
        finally:
            if led and not self._reading:
                self._hand_over()

    def _follow(self, done: Callable[[], bool], timeout: float | None) -> None:
        condition = threading.Condition(self._mutex)
        self._followers[condition] = done
        try:
            condition.wait(timeout)
        finally:
            self._followers.pop(condition, None)

    def _lead(self, timeout: float | None) -> None:
        self._reading = True
        try:
            count = self._read(timeout)
        finally:  # KeyboardInterrupt comes here too
            self._reading = False
        if count is None:
            return
        if count:
            self._connection.received(count)
        else:
            self._connection.receive_eof()
        self._calls.dispatch()
        self._sweep()
        self._flush()
        if self._followers:
            self._wake()
        if self._calls.closed is not None:
            self._hang_up()

    def _read(self, timeout: float | None) -> int | None:
        """Bytes read, 0 at the end, None when the timeout came first. The mutex is released meanwhile."""
        buffer = self._connection.receive_buffer()
        self._mutex.release()
        try:
            if timeout is not None and not _readable(self._socket, timeout):
                return None
            return self._socket.recv_into(buffer)
        except OSError:
            return 0  # reset, or closed by another thread: to us the same as the end
        finally:
            self._mutex.acquire()

    def _wake(self) -> None:
        """Wake the followers that have news."""
        for condition, done in self._followers.items():
            if self._calls.closed is not None or done():
                condition.notify()

    def _hand_over(self) -> None:
        """This thread stops reading: one of those that still wait must."""
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

    def _flush(self) -> None:
        try:
            while data := self._connection.data_to_send():
                self._send(data)
        except OSError as error:
            self._connection.receive_eof()
            self._calls.fail(ConnectionLost(f"sending failed: {error}"))
            self._hang_up()
        if self._connection.closed:
            self._calls.dispatch()

    def _hang_up(self) -> None:
        """The connection is over: close the socket, or wake the thread that reads from it, which then does."""
        if self._reading:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        else:
            self._socket.close()

    def _send(self, data: list[Buffer]) -> None:
        if len(data) == 1:
            self._socket.sendall(data[0])
        elif sum(map(len, data)) <= _JOIN_BYTES:
            self._socket.sendall(b"".join(data))
        else:
            for buffer in data:
                self._socket.sendall(buffer)


def connect(address: Address, token: Token | None, timeout: float) -> BlockingLink:
    """Dial and shake hands.

    Raises:
        TransportError: nobody there, or not an mlxbridge host.
        AuthenticationError, VersionMismatch: the host and this guest do not go together.
    """
    deadline = monotonic() + timeout
    link = BlockingLink(dial_blocking(address, timeout), address, token)
    try:
        link.shake_hands(max(0.001, deadline - monotonic()))
    except BaseException:
        link.close()
        raise
    return link


def _readable(sock: socket.socket, timeout: float) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(timeout * 1000))
