"""Read the commands that have come, take one step, write all that came of it at once; over and over.

While there is work the socket is only looked at, so that a cancel takes effect before the next step; while there is none, the
loop sleeps in ``recv``.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from mlxbridge import __version__
from mlxbridge.errors import BridgeError, InternalError, ModelLoadFailed
from mlxbridge.host.worker.rate import Rate
from mlxbridge.host.worker.service import Serve, Service
from mlxbridge.logs import set_format, set_level
from mlxbridge.protocol.codec import Buffer
from mlxbridge.protocol.events import CallCancelled, CallOpened
from mlxbridge.protocol.handshake import NONCE_BYTES
from mlxbridge.protocol.host import HostConnection
from mlxbridge.protocol.limits import Limits

MAX_CALLS = 8_192
_JOIN_BYTES = 64 * 1024
_MAX_VECTOR = 16
# What the front adds to a guest's params, at most.
_ORIGIN_BYTES = 4096

Tell = Callable[[str], None]
"""Takes the name of each stage of loading, before it begins."""

LoadModel = Callable[[Mapping[str, Any], Tell], Serve]
"""Takes the params of ``load``; raises ModelLoadFailed or ModelNotFound."""


class WorkerLoop:
    """Serves one connection to the front until that closes."""

    def __init__(self, sock: socket.socket, load_model: LoadModel) -> None:
        self._socket = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._load_model = load_model
        self._service: Service | None = None
        self._rate = Rate()
        self._connection = HostConnection(
            software=f"mlxbridge-worker/{__version__}",
            nonce=os.urandom(NONCE_BYTES),
            limits=Limits(max_calls=MAX_CALLS, max_head_bytes=Limits().max_head_bytes + _ORIGIN_BYTES),
        )
        self._failed_to_load = False

    def run(self) -> None:
        """Until the front closes the connection, or asks for a model that cannot be loaded."""
        while self.run_once():
            pass
        if self._service is not None:
            self._service.close()

    def run_once(self) -> bool:
        """One turn; False once there is nothing left to do."""
        service = self._service
        try:
            self._read(None if service is None else service.wait_s)
            self._handle_events()
            if service is not None:
                if (now := time.monotonic()) >= self._rate.next_at:
                    self._rate.note(now, service.tokens_total)
                service.turn()
            self._write()
        except (BrokenPipeError, ConnectionResetError):
            return False  # the front is gone, and with it everyone who waited
        return not self._connection.closed and not self._failed_to_load

    def _read(self, wait_s: float | None) -> None:
        """What there is, or will be within so many seconds; None: wait until there is something."""
        if wait_s:
            self._poll.poll(wait_s * 1000)
        flags = 0 if wait_s is None else socket.MSG_DONTWAIT
        while True:
            buffer = self._connection.receive_buffer()
            try:
                count = self._socket.recv_into(buffer, 0, flags)
            except BlockingIOError:
                return
            if count:
                self._connection.received(count)
            else:
                self._connection.receive_eof()
            if count < len(buffer):
                return
            flags = socket.MSG_DONTWAIT

    def _write(self) -> None:
        while data := self._connection.data_to_send():
            if sum(map(len, data)) <= _JOIN_BYTES:
                self._socket.sendall(b"".join(data))
            else:
                self._send_large(data)

    def _send_large(self, data: list[Buffer]) -> None:
        """Header and piece in one system call, or the front would wake for the header alone."""
        sent = self._socket.sendmsg(data[:_MAX_VECTOR])
        for buffer in data:
            if sent < len(buffer):
                self._socket.sendall(memoryview(buffer)[sent:])
            sent = max(0, sent - len(buffer))

    def _handle_events(self) -> None:
        for event in self._connection.events():
            if isinstance(event, CallOpened):
                try:
                    self._open(event)
                except BridgeError as error:
                    self._connection.fail(event.call, error)
            elif isinstance(event, CallCancelled):
                self._cancel(event.call)

    def _open(self, event: CallOpened) -> None:
        if event.method == "load":
            self._load(event)
        elif event.method == "log":
            set_level(event.params["level"])
            set_format(event.params["format"])
            self._connection.finish(event.call, {})
        elif self._service is None:
            raise InternalError(f"{event.method} before a model was loaded")
        elif event.method == "stats":
            self._connection.finish(event.call, self._stats(self._service))
        else:
            if (request_id := event.params.get("request_id")) is not None:
                self._connection.name_call(event.call, request_id)
            self._service.open(event)

    def _stats(self, service: Service) -> dict[str, Any]:
        stats = service.stats()
        speed = self._rate.per_second(time.monotonic(), stats["tokens_total"])
        return {**stats, "tokens_per_s": round(speed, 1)}

    def _load(self, event: CallOpened) -> None:
        if self._service is not None:
            raise InternalError("this worker has a model already")

        def tell(stage: str) -> None:
            self._connection.send_item(event.call, {"stage": stage})
            self._write()  # the loop comes to that only when all is loaded

        try:
            serve = self._load_model(event.params, tell)
        except BridgeError:
            self._failed_to_load = True
            raise
        except Exception as error:
            self._failed_to_load = True
            raise ModelLoadFailed(f"loading failed: {type(error).__name__}: {error}") from error
        self._service = serve(self._connection, str(event.params.get("name", "")))
        self._connection.finish(event.call, self._service.describe())

    def _cancel(self, call: int) -> None:
        if self._service is not None:
            self._service.cancel(call)
        else:
            self._connection.fail(call, InternalError("the call was not open in the engine"))
