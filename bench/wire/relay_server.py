"""The floor for what has two sockets to cross: one process sends arrays as the floor does, another passes them on."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

from bench.wire.floor_server import answer, receive, send

_BUFFER_BYTES = 256 * 1024


def serve(path: str, announce: Callable[..., None]) -> None:
    ours, theirs = socket.socketpair()
    source = os.fork()
    if source == 0:
        ours.close()
        _send_arrays(theirs)
        os._exit(0)
    theirs.close()
    with ours, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        announce(source)
        sock, _ = listener.accept()
        with sock, suppress(BrokenPipeError, ConnectionResetError):
            _relay(ours, sock)


def _send_arrays(sock: socket.socket) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        while (request := receive(sock)) is not None:
            answer(sock, request)


def _relay(source: socket.socket, client: socket.socket) -> None:
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    while (request := receive(client)) is not None:
        send(source, request)
        left = request["nbytes"] * request["count"]
        while left:
            count = source.recv_into(buffer)
            client.sendall(buffer[:count])
            left -= count
