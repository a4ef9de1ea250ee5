"""A socket with a guest's connection on it, never blocking: the link says when to wait, and for what.

What the socket does not take at once is kept here, in order, and the connection holds everything else back until it has
left. So a host that has stopped reading blocks nobody, and half a frame is never followed by another one.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from time import monotonic

from mlxbridge.protocol.codec import Buffer
from mlxbridge.protocol.guest import GuestConnection

_LONGEST_WAIT_S = 1_000_000.0  # poll(2) takes milliseconds in an int
_REST_BYTES = 64 * 1024


class Wire:
    """Reads into the connection and writes out of it; use it under the link's mutex, but for the two waits."""

    def __init__(self, sock: socket.socket, connection: GuestConnection) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._connection = connection
        self._unsent: deque[Buffer] = deque()
        self._for_reading = self._new_poll(select.POLLIN)
        self._for_both = self._new_poll(select.POLLIN | select.POLLOUT)

    @property
    def unsent(self) -> bool:
        """Whether bytes wait for the socket."""
        return bool(self._unsent)

    def read(self) -> int | None:
        """Bytes that were read into the connection's buffer; 0 at the end, None if there are none now."""
        try:
            return self._socket.recv_into(self._connection.receive_buffer())
        except BlockingIOError:
            return None
        except OSError:
            return 0  # reset, or shut down by another thread: to us the same as the end

    def write(self) -> None:
        """Send what the connection has and the socket takes.

        Raises:
            OSError: the link is broken.
        """
        connection, unsent = self._connection, self._unsent
        while True:
            while unsent:
                try:
                    count = self._socket.send(unsent[0])
                except BlockingIOError:
                    connection.pause()
                    return
                if count == len(unsent[0]):
                    unsent.popleft()
                else:
                    unsent[0] = memoryview(unsent[0])[count:]
            connection.resume()
            data = connection.data_to_send()
            if not data:
                return
            unsent.append(data[0] if len(data) == 1 else b"".join(data))

    def await_news(self, timeout: float | None) -> bool:
        """Wait until something can be read, or can be written that must be; False when the timeout came first."""
        return _poll(self._for_both if self._unsent else self._for_reading, timeout)

    def await_room(self, timeout: float | None) -> bool:
        """Wait until something can be written; False when the timeout came first."""
        return _poll(self._new_poll(select.POLLOUT), timeout)

    def await_end(self, timeout: float) -> None:
        """Throw away what comes, until the peer has closed or the timeout is over."""
        until, rest = monotonic() + timeout, bytearray(_REST_BYTES)
        poll = self._new_poll(select.POLLIN)
        while (left := until - monotonic()) > 0 and _poll(poll, left):
            try:
                if not self._socket.recv_into(rest):
                    return
            except BlockingIOError:
                continue
            except OSError:
                return

    def shut_down(self) -> None:
        """End the link, and every wait on it, but keep the descriptor from being used for something else."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended already

    def close(self) -> None:
        """Give the descriptor back; nobody may be waiting on it."""
        self._socket.close()

    def _new_poll(self, events: int) -> select.poll:
        """For one thread at a time, other than the one that waits for news: poll objects forbid more."""
        poll = select.poll()
        poll.register(self._socket, events)
        return poll


def _poll(poll: select.poll, timeout: float | None) -> bool:
    return bool(poll.poll(None if timeout is None else min(timeout, _LONGEST_WAIT_S) * 1000))
