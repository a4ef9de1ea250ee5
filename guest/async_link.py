"""One connection on an event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

from mlxbridge import __version__
from mlxbridge.addresses import Address
from mlxbridge.errors import BridgeError, ConnectionLost, HandshakeTimeout
from mlxbridge.guest.call import TAKE_BATCH, Call
from mlxbridge.guest.calls import LEAVING, LIMITS, Calls, client_closed, features_for
from mlxbridge.guest.comeback import Comeback
from mlxbridge.guest.link import Link
from mlxbridge.guest.memory import allocate
from mlxbridge.protocol.guest import GuestConnection
from mlxbridge.protocol.handshake import NONCE_BYTES, Token
from mlxbridge.protocol.limits import HANDSHAKE_TIMEOUT_S, KEEPALIVE_INTERVAL_S, Windows
from mlxbridge.transport.dial import dial
from mlxbridge.transport.driver import Driver

SOFTWARE = f"mlxbridge/{__version__}"
_CLOSE_TIMEOUT_S = 1.0


class AsyncLink(Link):
    """Belongs to one loop; use it from that loop's thread alone."""

    def __init__(self, address: Address, token: Token | None) -> None:
        self.loop = asyncio.get_running_loop()
        self._connection = GuestConnection(
            software=SOFTWARE,
            limits=LIMITS,
            nonce=os.urandom(NONCE_BYTES),
            features=features_for(address),
            token=token,
            allocate=allocate,
        )
        self._address = address
        self._connect_timeout = HANDSHAKE_TIMEOUT_S
        self._calls = Calls(self._connection, str(address))
        self._begin_transport()
        self._comeback = Comeback(address)
        self._coming_back: asyncio.Task[None] | None = None  # while it is cut
        self._waiters: dict[
            asyncio.Future[None], int
        ] = {}  # callers that wait until the host allows so many more calls
        self._pings: dict[bytes, asyncio.Future[None]] = {}  # the futures of ``Calls.pings``
        self._keepalive: asyncio.TimerHandle | None = None

    def _begin_transport(self) -> None:
        self._driver = Driver(self._connection, self._on_events, self._on_lost)
        self._handshake: asyncio.Future[None] = self.loop.create_future()
        self._lost: asyncio.Future[None] = self.loop.create_future()

    async def connect(self, address: Address, timeout: float) -> None:
        """Dial and shake hands.

        Raises:
            TransportError: nobody there, or not an mlxbridge host.
            AuthenticationError, VersionMismatch: the host and this guest do not go together.
        """
        self._connect_timeout = timeout
        await self._shake_hands(address, timeout)
        self._tick_keepalive()

    async def _shake_hands(self, address: Address, timeout: float) -> None:
        start = self.loop.time()
        sock = await dial(address, timeout)
        try:
            if self._connection.cut:
                self._calls.come_back(os.urandom(NONCE_BYTES))
            await self.loop.create_connection(lambda: self._driver, sock=sock)
        except BaseException:
            sock.close()
            raise
        left = min(HANDSHAKE_TIMEOUT_S, max(0.001, timeout - (self.loop.time() - start)))
        try:
            async with asyncio.timeout(left):
                await self._handshake
        except TimeoutError as error:
            self._driver.abort()
            if isinstance(error, BridgeError):
                raise
            raise HandshakeTimeout(
                f"{address} accepted the connection but did not say HELLO within {left:g} s"
            ) from None
        except BaseException:
            self._driver.abort()
            raise

    async def open(
        self, method: str, params: Sequence[Mapping[str, Any]], windows: Windows, deadline_ms: int | None
    ) -> list[Call]:
        """Start a call for each of ``params``, all in one write, as soon as the host allows so many more.

        Raises:
            BridgeError: the link is closed, the arguments are too large or cannot be sent, or the host never allows
                so many calls.
        """
        calls: list[Call] = []
        self._calls.check_count(len(params))
        try:
            # Behind those who wait already: who wants few calls must not keep one who wants many out for ever.
            must_wait = bool(self._waiters)
            while (must_wait or self._connection.num_openable < len(params)) and self.usable:
                await self._wait_for_slots(len(params))
                must_wait = False
            if self._calls.closed is not None:
                raise self._calls.closed
            if not self.usable:
                raise ConnectionLost(f"{self._calls.address}: the host is going away")
            for each in params:
                calls.append(self._calls.open(method, each, deadline_ms, windows))
        except BaseException:
            for call in calls:
                self._calls.give_up(call, ConnectionLost(f"{method} was not sent"))
            raise
        finally:
            self._free_slots()  # the slot that woke this task may still be free, or another one with it
            self._driver.flush_soon()
        return calls

    async def _wait_for_slots(self, count: int) -> None:
        waiter = self.loop.create_future()
        self._waiters[waiter] = count
        try:
            await waiter
        finally:
            self._waiters.pop(waiter, None)

    def return_credit(self, call: Call) -> None:
        """Tell the host what was taken; worth it once ``call.taken`` is ``TAKE_BATCH``."""
        self._calls.return_credit(call)
        self._driver.flush_soon()

    def take_item(self, call: Call) -> Any:
        """The next stream item of a call that has one."""
        item = call.items.popleft()
        call.taken += 1
        if call.taken >= TAKE_BATCH:
            self.return_credit(call)
        return item

    def give_up(self, call: Call, error: BridgeError) -> None:
        """End the call here and cancel it at the host."""
        if not call.ended:
            self._calls.give_up(call, error)
            if self._calls.closed is not None:  # it was the last one for which the link was to be mended
                self._after_dispatch()
            self._driver.flush()

    def drop(self, call: Call) -> None:
        """As ``give_up``, for a finalizer, which may run in any thread and after the loop's end."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.give_up, call, ConnectionLost("the stream was dropped"))

    async def ping(self) -> None:
        """Wait for the host to answer a PING."""
        if self._calls.closed is not None:
            raise self._calls.closed
        body = os.urandom(8)
        answer = self._pings[body] = self.loop.create_future()
        try:
            self._calls.ping(body)
            self._driver.flush()
            await answer
        finally:
            del self._pings[body]
            self._calls.pings.pop(body, None)

    async def close(self) -> None:
        """Cancel what is open, close the transport and wait until it is gone."""
        if self._calls.closed is None:
            self._connection.leave(LEAVING)
            self._calls.fail(client_closed())
            self._after_dispatch()
        if self._coming_back is not None:
            self._coming_back.cancel()
            await asyncio.wait([self._coming_back])
        if self._driver.transport is not None:
            self._driver.flush()
            await asyncio.wait([self._lost], timeout=_CLOSE_TIMEOUT_S)
            self._driver.abort()  # a host that does not read cannot keep this end from closing

    # ------------------------------------------------------------------------------------------------------------

    def _on_events(self) -> None:
        self._calls.dispatch()
        self._after_dispatch()

    def _after_dispatch(self) -> None:
        calls = self._calls
        if not self._handshake.done() and (self._connection.ready or self._connection.closed):
            if self._connection.closed:
                self._handshake.set_exception(calls.closed or ConnectionLost("the handshake was cut off"))
                self._handshake.exception()  # whoever waits sees it; nobody must be warned if nobody does
            else:
                self._handshake.set_result(None)
        if self._connection.cut and self._coming_back is None:
            self._coming_back = self.loop.create_task(self._come_back())
        if self._waiters:
            self._free_slots()
        for body, answer in self._pings.items():
            if calls.pings[body] and not answer.done():
                answer.set_result(None)
        if calls.closed is not None:
            self._fail_pings(calls.closed)

    async def _come_back(self) -> None:
        """Reach the host again, and go on with the calls, as long as it keeps them and anybody wants them."""
        calls, connection, comeback = self._calls, self._connection, self._comeback
        comeback.begin(self.loop.time(), (connection.grace_ms or 0) / 1000, connection.num_received)
        try:
            while connection.cut and (delay := comeback.next_delay(self.loop.time())) is not None:
                await asyncio.sleep(delay)
                if not connection.cut:
                    return
                self._driver.release()
                self._begin_transport()
                left = max(0.001, comeback.until - self.loop.time())
                try:
                    await self._shake_hands(self._address, min(left, self._connect_timeout))
                except BridgeError as error:
                    comeback.failed(error)
                if not connection.ready:  # one that has not answered in time is as good as cut
                    connection.receive_eof()
        finally:
            self._coming_back = None
            if not connection.ready and calls.closed is None:
                connection.close()
                calls.fail(comeback.reason)
                self._after_dispatch()
        if connection.ready:
            self._tick_keepalive()

    def _free_slots(self) -> None:
        """Let the task that waits longest go on if there is room, or all if there will be none; each lets the next go."""
        room = self._connection.num_openable
        for waiter, count in self._waiters.items():
            if waiter.done():
                continue
            if self.usable and count > room:
                return
            waiter.set_result(None)
            if self.usable:
                return

    def _fail_pings(self, error: BridgeError) -> None:
        for answer in self._pings.values():
            if not answer.done():
                answer.set_exception(error)

    def _on_lost(self) -> None:
        if self._keepalive is not None:
            self._keepalive.cancel()
            self._keepalive = None
        if not self._lost.done():
            self._lost.set_result(None)

    def _tick_keepalive(self) -> None:
        if self._keepalive is not None:
            self._keepalive.cancel()  # of a transport that was lost without a word
        self._connection.keepalive()
        if self._connection.closed:
            self._on_events()
        self._driver.flush()
        if self._driver.transport is not None:
            self._keepalive = self.loop.call_later(KEEPALIVE_INTERVAL_S, self._tick_keepalive)
