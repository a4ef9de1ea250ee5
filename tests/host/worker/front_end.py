"""The front's end of a worker's socket; one turn of it is one turn of the worker's loop, and so one engine step."""

from __future__ import annotations

import os
import socket
from typing import Any

from mlxbridge.host.worker.loop import WorkerLoop
from mlxbridge.protocol import GuestConnection, Windows
from mlxbridge.protocol.events import ErrorReceived, Event, ResultReceived, TokensReceived


class FrontEnd:
    """The other end of a worker's socket."""

    def __init__(self, sock: socket.socket, loop: WorkerLoop) -> None:
        self.sock = sock
        self.loop = loop
        self.connection = GuestConnection(
            software="test", nonce=os.urandom(32), windows=Windows(items=1 << 40, bytes=1 << 40)
        )
        sock.setblocking(False)
        self.events: list[Event] = []

    def turn(self) -> bool:
        """Send what there is, let the worker take one turn, read its answer."""
        for data in self.connection.data_to_send():
            self.sock.sendall(data)
        alive = self.loop.run_once()
        try:
            while True:
                self.connection.receive_data(self.sock.recv(1 << 16))
        except BlockingIOError:
            pass
        self.events += self.connection.events()
        return alive

    def tokens(self, call: int) -> int:
        """Rows of a call that have come."""
        return sum(event.calls.count(call) for event in self.events if isinstance(event, TokensReceived))

    def end(self, call: int) -> ResultReceived | ErrorReceived | None:
        for event in self.events:
            if isinstance(event, ResultReceived | ErrorReceived) and event.call == call:
                return event
        return None


def generate(front: FrontEnd, **params: Any) -> int:
    return generate_for(front, "someone", **params)


def generate_for(front: FrontEnd, guest: str, *, deadline_ms: int | None = None, **params: Any) -> int:
    request = {"prompt": "hello there", "seed": 1, "temperature": 5.0, **params}
    return front.connection.open_call(
        "generate", {"request": request, "guest": guest, "cache_scope": ""}, deadline_ms=deadline_ms
    )
