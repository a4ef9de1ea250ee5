"""The asyncio shell around a sans-IO connection: reads in place, writes in few system calls, honours back-pressure.

It knows the connection only as a ``Machine``, so that transports do not depend on the protocol.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from mlxbridge.transport.buffers import SendBuffer, send_buffer_of

HIGH_WATER_BYTES = 64 * 1024
LOW_WATER_BYTES = 16 * 1024
LINGER_S = 1.0
CLOSE_TIMEOUT_S = 5.0
_JOIN_BYTES = 64 * 1024  # up to here one copy is cheaper than a vector of buffers

Buffer = bytes | bytearray | memoryview


class Machine(Protocol):
    """What a driver needs of a connection (``mlxbridge.protocol.connection`` is one)."""

    def receive_buffer(self) -> memoryview:
        """Where the next bytes go."""

    def received(self, count: int) -> bool:
        """So many bytes went there; whether anything may have come of them."""

    def receive_eof(self) -> None:
        """No more will come."""

    def data_to_send(self) -> Sequence[Buffer]:
        """What to write now."""

    def pause(self) -> None:
        """The transport is full."""

    def resume(self) -> None:
        """The transport has room."""

    @property
    def closed(self) -> bool:
        """Whether to close once everything is written."""

    @property
    def lingering(self) -> bool:
        """Whether the peer should get a moment to read the last words before the transport closes."""


class Driver(asyncio.BufferedProtocol):
    """Runs one machine on one transport.

    Args:
        machine: the connection; the driver alone does its I/O.
        on_events: called after each read, when the machine may have events.
        on_lost: called once, when the transport is gone.
    """

    def __init__(self, machine: Machine, on_events: Callable[[], None], on_lost: Callable[[], None]) -> None:
        self._machine = machine
        self._on_events = on_events
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._vectored = False
        self._send_buffer: SendBuffer | None = None
        self._flush_scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._give_up: asyncio.TimerHandle | None = None

    def serve(self, machine: Machine, on_events: Callable[[], None], on_lost: Callable[[], None]) -> None:
        """Run another machine on the same transport from now on."""
        self._machine, self._on_events, self._on_lost = machine, on_events, on_lost

    def release(self) -> None:
        """Drop the transport; the machine, which goes on elsewhere, is told nothing."""
        self.serve(_Nobody(), _ignore, _ignore)
        self.abort()

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport, None before it is connected and after it is lost."""
        return self._transport

    def flush(self) -> None:
        """Write all that the machine has for the wire and the transport takes."""
        transport = self._transport
        if transport is None:
            return
        machine = self._machine
        while not self._paused:
            data = machine.data_to_send()
            if not data:
                break
            self._write(transport, data)
        if machine.closed and not transport.is_closing():
            self._close(transport)

    def flush_soon(self) -> None:
        """``flush`` once in this turn of the loop, however often it is asked for."""
        if not self._flush_scheduled and self._loop is not None:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_now)

    def abort(self) -> None:
        """Drop the transport without writing what is left."""
        if self._transport is not None:
            self._transport.abort()

    def _close(self, transport: asyncio.Transport) -> None:
        """Close, or let the peer do it: closing with unread bytes resets the link, and with it what was just said."""
        if not self._machine.lingering or self._loop is None:
            self._close_now(transport)
        elif self._linger is None:
            self._linger = self._loop.call_later(LINGER_S, self._close_now, transport)

    def _close_now(self, transport: asyncio.Transport) -> None:
        """Close once all is written, but wait only so long for a peer that does not read."""
        transport.close()
        if self._give_up is None and self._loop is not None:
            self._give_up = self._loop.call_later(CLOSE_TIMEOUT_S, transport.abort)

    def _flush_now(self) -> None:
        self._flush_scheduled = False
        self.flush()

    def _write(self, transport: asyncio.Transport, data: Sequence[Buffer]) -> None:
        num_bytes = sum(map(len, data))
        if self._send_buffer is not None:
            self._send_buffer.fit(num_bytes)
        if len(data) == 1:
            transport.write(data[0])
        elif num_bytes <= _JOIN_BYTES:
            transport.write(b"".join(data))
        elif self._vectored:
            transport.writelines(data)
        else:
            for buffer in data:
                transport.write(buffer)

    # -- asyncio.BufferedProtocol ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport and send the first words."""
        stream = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it
        # uvloop's default low-water mark is 16 bytes, which would resume only when the buffer is empty.
        stream.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=LOW_WATER_BYTES)
        self._loop = asyncio.get_running_loop()
        self._vectored = _has_vectored_writes(self._loop)
        self._send_buffer = send_buffer_of(stream.get_extra_info("socket"))
        self._transport = stream
        self.flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        """The machine's own memory."""
        return self._machine.receive_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Parse, tell the owner, answer."""
        if self._machine.received(nbytes):
            self._on_events()
            self.flush()

    def eof_received(self) -> bool:
        """The peer has closed: no relay is relied on for half-closed links, so this end closes too."""
        self._machine.receive_eof()
        self._on_events()
        if self._transport is not None:
            self._close_now(self._transport)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone, for whatever reason."""
        self._transport = None
        for timer in (self._linger, self._give_up):
            if timer is not None:
                timer.cancel()
        self._machine.receive_eof()
        self._on_events()
        self._on_lost()

    def pause_writing(self) -> None:
        """The write buffer is over its high-water mark."""
        self._paused = True
        self._machine.pause()

    def resume_writing(self) -> None:
        """The write buffer is under its low-water mark."""
        self._paused = False
        self._machine.resume()
        self.flush()


class _Nobody:
    """A machine that takes everything and says nothing."""

    closed = True
    lingering = False

    def receive_buffer(self) -> memoryview:
        return memoryview(bytearray(4096))

    def received(self, count: int) -> bool:
        return True

    def receive_eof(self) -> None:
        return

    def data_to_send(self) -> Sequence[Buffer]:
        return ()

    def pause(self) -> None:
        return

    def resume(self) -> None:
        return


def _ignore() -> None:
    return


def _has_vectored_writes(loop: Any) -> bool:
    """Whether ``writelines`` sends without joining and still honours ``pause_writing``: uvloop, or asyncio after CVE-2024-12254."""
    if type(loop).__module__.startswith("uvloop"):
        return True
    return sys.version_info >= (3, 13, 2) or (3, 12, 9) <= sys.version_info < (3, 13)
