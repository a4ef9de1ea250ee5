"""Read the commands that have come, take one engine step, write all of its tokens at once; over and over.

While the engine has work the socket is only looked at, so that a cancel takes effect before the next step; while it
has none, the loop sleeps in ``recv``.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlxbridge import __version__
from mlxbridge.errors import BridgeError, InternalError, ModelLoadFailed, UnknownMethod
from mlxbridge.host.engine.interface import Engine, Origin, Row
from mlxbridge.host.params import parse_generate
from mlxbridge.host.worker.backlog import Backlog
from mlxbridge.host.worker.feeder import Feeder
from mlxbridge.host.worker.results import usage_to_wire
from mlxbridge.protocol.events import CallCancelled, CallOpened
from mlxbridge.protocol.handshake import NONCE_BYTES
from mlxbridge.protocol.host import HostConnection
from mlxbridge.protocol.limits import Limits
from mlxbridge.protocol.logprobs import encode_logprobs
from mlxbridge.protocol.parts import Part, encode_part
from mlxbridge.types import Usage

MAX_CALLS = 8_192
_JOIN_BYTES = 64 * 1024
# What the front adds to a guest's params, at most.
_ORIGIN_BYTES = 4096

Tell = Callable[[str], None]
"""Takes the name of each stage of loading, before it begins."""

LoadEngine = Callable[[Mapping[str, Any], Tell], Engine]
"""Takes the params of ``load``; raises ModelLoadFailed or ModelNotFound."""


class WorkerLoop:
    """Serves one connection to the front until that closes."""

    def __init__(self, sock: socket.socket, load_engine: LoadEngine) -> None:
        self._socket = sock
        self._load_engine = load_engine
        self._engine: Engine | None = None
        self._connection = HostConnection(
            software=f"mlxbridge-worker/{__version__}",
            nonce=os.urandom(NONCE_BYTES),
            limits=Limits(max_calls=MAX_CALLS, max_head_bytes=Limits().max_head_bytes + _ORIGIN_BYTES),
        )
        self._backlog = Backlog()
        self._feeder: Feeder | None = None
        self._model_name = ""
        self._failed_to_load = False

    def run(self) -> None:
        """Until the front closes the connection, or asks for a model that cannot be loaded."""
        while self.run_once():
            pass
        if self._engine is not None:
            self._engine.close()

    def run_once(self) -> bool:
        """One turn; False once there is nothing left to do."""
        engine, feeder = self._engine, self._feeder
        busy = self._backlog or (engine is not None and engine.has_work) or (feeder and feeder.is_ready)
        try:
            self._read(wait=not busy)
            self._handle_events()
            self._submit_some()
            if engine is not None and engine.has_work:
                rows = engine.step()
                self._answer(feeder.take(rows) if feeder else rows)
            self._write()
        except (BrokenPipeError, ConnectionResetError):
            return False  # the front is gone, and with it everyone who waited
        return not self._connection.closed and not self._failed_to_load

    def _read(self, *, wait: bool) -> None:
        flags = 0 if wait else socket.MSG_DONTWAIT
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
                for buffer in data:
                    self._socket.sendall(buffer)

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
        elif self._engine is None:
            raise InternalError(f"{event.method} before a model was loaded")
        elif event.method == "generate":
            self._backlog.add(event.call, event.params["request"], _origin(event))
        elif event.method == "generate_many":
            assert self._feeder is not None
            self._feeder.add(event.call, event.params["request"], _origin(event))
        elif event.method == "stats":
            stats = self._engine.stats()
            stats["waiting"] += len(self._backlog)
            stats["requests_waiting"] = self._feeder.num_waiting if self._feeder else 0
            self._connection.finish(event.call, stats)
        else:
            raise UnknownMethod(f"a worker has no method {event.method!r}")

    def _submit_some(self) -> None:
        some = self._backlog.take_some()
        for call, params, origin in some:
            try:
                assert self._engine is not None
                self._engine.submit(call, parse_generate(params), origin)
            except BridgeError as error:
                self._connection.fail(call, error)
        if self._feeder:
            self._feeder.feed(len(some))

    def _load(self, event: CallOpened) -> None:
        if self._engine is not None:
            raise InternalError("this worker has a model already")

        def tell(stage: str) -> None:
            self._connection.send_item(event.call, {"stage": stage})
            self._write()  # the loop comes to that only when all is loaded

        try:
            self._engine = self._load_engine(event.params, tell)
        except BridgeError:
            self._failed_to_load = True
            raise
        except Exception as error:
            self._failed_to_load = True
            raise ModelLoadFailed(f"loading failed: {type(error).__name__}: {error}") from error
        self._model_name = str(event.params.get("name", ""))
        self._feeder = Feeder(self._engine, self._connection, model=self._model_name)
        self._connection.finish(event.call, self._engine.describe())

    def _cancel(self, call: int) -> None:
        if self._feeder and self._feeder.cancel(call):
            return
        if self._backlog.remove(call):
            usage = Usage(finish_reason="cancelled", prompt_tokens=0, completion_tokens=0)
            self._answer([Row(call, [], "", usage=usage)])
            return
        row = self._engine.cancel(call) if self._engine is not None else None
        if row is not None:
            self._answer([row])
        else:
            self._connection.fail(call, InternalError("the call was not open in the engine"))

    def _answer(self, rows: Sequence[Row]) -> None:
        connection = self._connection
        moved = [row for row in rows if row.token_ids or row.text or row.parts]
        if moved:
            connection.send_tokens(
                [row.call for row in moved],
                [row.token_ids for row in moved],
                [row.text for row in moved],
                _logprobs(moved),
                _parts(moved),
            )
            self._drop_refused(moved)
        for row in rows:
            if row.usage is not None:
                connection.finish(row.call, {"model": self._model_name, **usage_to_wire(row.usage)})
            elif row.error is not None:
                connection.fail(row.call, row.error)

    def _drop_refused(self, rows: Sequence[Row]) -> None:
        """Stop what the connection has ended: a call whose logprobs or parts the front does not take (SPEC.md §7)."""
        for row in rows:
            if (
                (row.logprobs is not None or row.parts)
                and self._engine is not None
                and not self._connection.is_open(row.call)
            ):
                self._engine.cancel(row.call)


def _logprobs(rows: Sequence[Row]) -> list[list[bytes] | None] | None:
    for row in rows:
        if row.logprobs is not None:
            return [None if row.logprobs is None else [*map(encode_logprobs, row.logprobs)] for row in rows]
    return None


def _parts(rows: Sequence[Row]) -> list[list[Part] | None] | None:
    for row in rows:
        if row.parts:
            return [[*map(encode_part, row.parts)] if row.parts else None for row in rows]
    return None


def _origin(event: CallOpened) -> Origin:
    left_ms = event.deadline_ms
    return Origin(
        guest=event.params["guest"],
        cache_scope=event.params["cache_scope"],
        deadline_at=None if left_ms is None else time.monotonic() + left_ms / 1000,
    )
