"""Generating: the engine, the calls it has not seen yet, and what is told of each step."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mlxbridge.errors import BridgeError, InternalError
from mlxbridge.host.engine.interface import Engine, Row
from mlxbridge.host.models.kind import refuse_method
from mlxbridge.host.params import parse_generate
from mlxbridge.host.worker.backlog import Backlog
from mlxbridge.host.worker.feeder import Feeder
from mlxbridge.host.worker.results import fail_call, usage_to_wire
from mlxbridge.host.worker.service import origin_of
from mlxbridge.host.worker.tokenizing import METHODS, Codec, Tokenizing
from mlxbridge.protocol.events import CallOpened
from mlxbridge.protocol.host import HostConnection
from mlxbridge.protocol.logprobs import encode_logprobs
from mlxbridge.protocol.parts import Part, encode_part
from mlxbridge.types import Usage


class Generation:
    """Answers ``generate`` and ``generate_many``, what is asked of the tokenizer, and the front's ``curtail``, ``hold`` and
    ``go_on``.

    Attributes:
        engine: what answers.
        feeder: the calls with many prompts.
    """

    def __init__(self, engine: Engine, codec: Codec, connection: HostConnection, model: str) -> None:
        self.engine = engine
        self.feeder = Feeder(engine, connection, model=model)
        self._connection = connection
        self._model = model
        self._backlog = Backlog()
        self._tokenizing = Tokenizing(codec, ThreadPoolExecutor(1, "tokenizing"), connection, model)
        # Calls of the backlog that are to be held.
        self._held: set[int] = set()

    @property
    def wait_s(self) -> float | None:
        """0 while there are steps to take."""
        is_busy = self._backlog or self.engine.has_work or self.feeder.is_ready
        return 0.0 if is_busy else self._tokenizing.wait_s

    @property
    def tokens_total(self) -> int:
        """That the engine has made."""
        return self.engine.tokens_total

    def open(self, event: CallOpened) -> None:
        """Let a call wait for its turn to be read; errors as of ``Backlog.add`` and ``Feeder.add``."""
        if event.method == "generate":
            self._backlog.add(event.call, event.params["request"], origin_of(event))
        elif event.method == "generate_many":
            self.feeder.add(event.call, event.params["request"], origin_of(event))
        elif event.method in METHODS:
            self._tokenizing.open(event)
        elif event.method == "curtail":
            self.feeder.curtail(event.params["call"])
            self._connection.finish(event.call, {})
        elif event.method == "hold":
            self._hold(event.params["call"])
            self._connection.finish(event.call, {})
        elif event.method == "go_on":
            self._go_on(event.params["call"])
            self._connection.finish(event.call, {})
        else:
            raise refuse_method(event.method, "generate", self._model)

    def cancel(self, call: int) -> None:
        """End a call before the next step."""
        if self.feeder.cancel(call) or self._tokenizing.cancel(call):
            return
        if self._backlog.remove(call):
            self._held.discard(call)
            usage = Usage(finish_reason="cancelled", prompt_tokens=0, completion_tokens=0)
            self._answer([Row(call, [], "", usage=usage)])
            return
        row = self.engine.cancel(call)
        if row is not None:
            self._answer([row])
        else:
            self._connection.fail(call, InternalError("the call was not open in the engine"))

    def turn(self) -> None:
        """Begin a few calls, take one engine step, send all of its tokens."""
        self._submit_some()
        self._tokenizing.turn()
        if self.engine.has_work:
            self._answer(self.feeder.take(self.engine.step()))

    def describe(self) -> dict[str, Any]:
        """``kind``, and the engine's facts."""
        return {"kind": "generate", **self.engine.describe()}

    def stats(self) -> dict[str, int]:
        """The engine's counters; calls that it has not seen are ``waiting`` too."""
        stats = self.engine.stats()
        stats["waiting"] += len(self._backlog)
        stats["requests_waiting"] = self.feeder.num_waiting
        return stats

    def close(self) -> None:
        """No more steps."""
        self._tokenizing.close()
        self.engine.close()

    # ------------------------------------------------------------------------------------------------------------

    def _hold(self, call: int) -> None:
        """Spend nothing on a call; one that is not here has ended."""
        if call in self._backlog:
            self._held.add(call)
        elif not self.feeder.hold(call):
            self.engine.hold(call)

    def _go_on(self, call: int) -> None:
        if call in self._backlog:
            self._held.discard(call)
        elif not self.feeder.go_on(call):
            self.engine.go_on(call)

    def _submit_some(self) -> None:
        some = self._backlog.take_some()
        for call, params, origin in some:
            try:
                self.engine.submit(call, parse_generate(params), origin)
            except BridgeError as error:
                self._connection.fail(call, error)
            if call in self._held:
                self._held.discard(call)
                self.engine.hold(call)
        self.feeder.feed(len(some))

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
                connection.finish(row.call, {"model": self._model, **usage_to_wire(row.usage)})
            elif row.error is not None:
                fail_call(connection, row.call, row.error)

    def _drop_refused(self, rows: Sequence[Row]) -> None:
        """Stop what the connection has ended: a call whose logprobs or parts the front does not take (SPEC.md §7)."""
        for row in rows:
            if (row.logprobs is not None or row.parts) and not self._connection.is_open(row.call):
                self.engine.cancel(row.call)


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
