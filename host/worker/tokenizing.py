"""``tokenize`` and ``detokenize``: calls that need a model's tokenizer and not the model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from typing import Any, Protocol

from mlxbridge.errors import BridgeError, DeadlineExceeded, InternalError
from mlxbridge.host.engine.interface import Origin
from mlxbridge.host.engine.token_request import DetokenizeRequest, TokenizeRequest
from mlxbridge.host.token_params import parse_detokenize, parse_tokenize
from mlxbridge.host.worker.backlog import Backlog
from mlxbridge.host.worker.results import fail_call, pack_token_ids
from mlxbridge.host.worker.service import origin_of
from mlxbridge.protocol.events import CallOpened
from mlxbridge.protocol.host import HostConnection

METHODS = ("tokenize", "detokenize")
_LOOK_EVERY_S = 0.001


class Codec(Protocol):
    """What answers."""

    def tokenize(self, request: TokenizeRequest) -> list[int]:
        """Token ids of a text or a chat; raises BridgeError."""

    def detokenize(self, request: DetokenizeRequest) -> str:
        """The text of token ids; raises BridgeError."""


class Inline(Executor):
    """Runs what it is given at once, for a codec that is not for two threads."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """What came of it."""
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


class Tokenizing:
    """Owns these calls, one of which is answered at a time, by guests in turn.

    Args:
        codec: what answers.
        executor: runs it; one with a thread lets steps go on beside a long text, since most of that needs no Python.
        connection: to the front.
        model: its name.
    """

    def __init__(self, codec: Codec, executor: Executor, connection: HostConnection, model: str) -> None:
        self._codec = codec
        self._executor = executor
        self._connection = connection
        self._model = model
        self._backlog = Backlog()
        self._methods: dict[int, str] = {}  # of the calls that wait
        self._running: tuple[int, Future[dict[str, Any]]] | None = None
        self._taken: list[tuple[int, Mapping[str, Any], Origin]] = []

    @property
    def wait_s(self) -> float | None:
        """As ``Service.wait_s``."""
        if self._running is not None:
            return _LOOK_EVERY_S
        return 0.0 if self._taken or self._backlog else None

    def open(self, event: CallOpened) -> None:
        """Let a call wait for its turn; errors as of ``Backlog.add``."""
        self._backlog.add(event.call, event.params["request"], origin_of(event))
        self._methods[event.call] = event.method

    def cancel(self, call: int) -> bool:
        """End a call; whether it was one of these. One that runs goes on for nobody."""
        if self._methods.pop(call, None) is None:
            return False
        self._backlog.remove(call)
        self._taken = [waiting for waiting in self._taken if waiting[0] != call]
        self._connection.finish(call, {"finish_reason": "cancelled"})
        return True

    def turn(self) -> None:
        """Answer the call that is done, begin the next."""
        if self._running is not None and self._running[1].done():
            call, future = self._running
            self._running = None
            self._answer(call, future)
        if self._running is None:
            self._begin()

    def close(self) -> None:
        """No more turns."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        if not self._taken:
            self._taken = self._backlog.take_some()
        if not self._taken:
            return
        call, params, origin = self._taken.pop(0)
        if origin.deadline_at is not None and time.monotonic() >= origin.deadline_at:
            del self._methods[call]
            self._connection.fail(call, DeadlineExceeded("the call's time ran out in the model's queue"))
            return
        work = self._tokenize if self._methods[call] == "tokenize" else self._detokenize
        self._running = call, self._executor.submit(work, params)

    def _tokenize(self, params: Mapping[str, Any]) -> dict[str, Any]:
        request = parse_tokenize(params)
        ids = self._codec.tokenize(request)
        counted = {"num_tokens": len(ids)}
        return counted if request.count_only else {**counted, "token_ids": pack_token_ids(ids)}

    def _detokenize(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"text": self._codec.detokenize(parse_detokenize(params))}

    def _answer(self, call: int, future: Future[dict[str, Any]]) -> None:
        method = self._methods.pop(call, None)
        if method is None:  # it was cancelled
            return
        try:
            result = future.result()
        except BridgeError as error:
            fail_call(self._connection, call, error)
        except Exception as error:
            fail_call(
                self._connection, call, InternalError(f"{method} failed: {type(error).__name__}: {error}")
            )
        else:
            self._connection.finish(call, {"model": self._model, **result})
