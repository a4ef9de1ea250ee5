"""A link to a host for the threads that call it; ``BlockingDriver`` does the I/O."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic
from typing import Any

from mlxbridge import __version__
from mlxbridge.addresses import Address
from mlxbridge.errors import (
    BridgeError,
    ConnectionLost,
    DeadlineExceeded,
    HandshakeTimeout,
    UsageError,
)
from mlxbridge.guest.blocking_driver import BlockingDriver
from mlxbridge.guest.call import TAKE_BATCH, Call
from mlxbridge.guest.calls import LIMITS, Calls, features_for
from mlxbridge.guest.link import Link, ping_late
from mlxbridge.guest.memory import allocate
from mlxbridge.protocol.guest import GuestConnection
from mlxbridge.protocol.handshake import NONCE_BYTES, Token
from mlxbridge.protocol.limits import HANDSHAKE_TIMEOUT_S, Windows
from mlxbridge.transport.dial import dial_blocking

SOFTWARE = f"mlxbridge/{__version__}"


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
        self._calls = Calls(self._connection, str(address))
        self._driver = BlockingDriver(sock, self._connection, self._calls, address, connect_timeout)

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
        with self._driver.mutex:
            self._driver.flush()
            if not self._driver.wait(lambda: calls.ready is not None, monotonic() + timeout):
                raise calls.closed or HandshakeTimeout(
                    f"{self.address} accepted the connection but did not say HELLO within {timeout:g} s"
                )

    def refresh(self) -> bool:
        """Read what came while nobody looked, a GOAWAY perhaps; whether the link is still usable."""
        if self.usable:
            self._driver.look()
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
        with self._driver.mutex:
            self._driver.sweep()
            self._calls.check_count(count)
            if connection.num_openable < count:
                self._driver.wait(lambda: connection.num_openable >= count or not self.usable, deadline)
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
                self._driver.flush()
                self._driver.push(method, deadline)
                for call in calls:
                    if call.error is not None:  # refused before the last one had left, or the link broke
                        raise call.error
            except BaseException as error:
                for call in calls:
                    self._calls.give_up(call, ConnectionLost(f"{method} was interrupted"))
                if not isinstance(error, BridgeError):
                    self._driver.give_up("interrupted while sending")
                elif self._calls.closed is None:
                    self._driver.flush()
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
        with self._driver.mutex:
            self._calls.return_credit(call)
            self._driver.flush()

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
        with self._driver.mutex:
            if not call.ended:
                self._calls.give_up(call, error)
                self._driver.flush()

    def drop(self, call: Call) -> None:
        """As ``give_up``, for a finalizer: never blocks, whatever this thread holds."""
        if self.pid != os.getpid():
            return
        self._calls.drop(call)
        if self._driver.mutex.acquire(blocking=False):
            try:
                self._driver.sweep()
            finally:
                self._driver.mutex.release()

    def ping(self, deadline: float | None) -> None:
        """Wait for the host to answer a PING.

        Raises:
            DeadlineExceeded: it did not.
        """
        body = os.urandom(8)
        calls = self._calls
        with self._driver.mutex:
            if calls.closed is not None:
                raise calls.closed
            try:
                calls.ping(body)
                self._driver.flush()
                if not self._driver.wait(lambda: calls.pings[body], deadline):
                    raise calls.closed or ping_late()
            finally:
                calls.pings.pop(body, None)

    def close(self) -> None:
        """Cancel what is open and close the socket; threads that wait get ConnectionLost."""
        with self._driver.mutex:
            self._driver.close()

    def abandon(self) -> None:
        """Forget the socket without a word to the host: it belongs to the process that forked this one."""
        self._driver.abandon()

    def __del__(self) -> None:
        if self.pid == os.getpid():
            self._driver.leave()
        self._driver.abandon()

    def _check_process(self) -> None:
        if self.pid != os.getpid():
            raise UsageError("this stream belongs to the process that forked this one; start a new one here")

    def _wait_for(self, calls: Collection[Call], done: Callable[[], bool], deadline: float | None) -> None:
        self._check_process()
        with self._driver.mutex:
            self._driver.sweep()
            if not self._driver.wait(done, deadline):
                for call in calls:
                    error = call.late()
                    self._calls.give_up(call, error)
                self._driver.flush()
                raise error


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
