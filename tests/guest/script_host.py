"""A host in a thread, on a real unix socket, that does what a test tells it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator

from mlxbridge.protocol import HostConnection, Limits
from mlxbridge.protocol.events import Event

React = Callable[[HostConnection, Event], None]


class ScriptHost:
    """Serves every connection in a thread of its own; ``react`` answers each event."""

    def __init__(self, path: str, react: React, limits: Limits | None = None) -> None:
        self.url = f"unix://{path}"
        self.connections: list[HostConnection] = []
        self._react = react
        self._limits = limits
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        """Break every connection."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)
        for sock in self._sockets:
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        connection = HostConnection(software="script", nonce=os.urandom(32), limits=self._limits)
        self.connections.append(connection)
        with contextlib.suppress(OSError):
            while not connection.closed:
                count = sock.recv_into(connection.receive_buffer())
                if not count:
                    return
                connection.received(count)
                for event in connection.events():
                    self._react(connection, event)
                while data := connection.data_to_send():
                    for buffer in data:
                        sock.sendall(buffer)
            sock.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def script_host(path: str, react: React, limits: Limits | None = None) -> Iterator[ScriptHost]:
    host = ScriptHost(path, react, limits)
    try:
        yield host
    finally:
        host.close()
