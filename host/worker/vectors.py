"""Embedding and reranking: calls go to the engine as they come, vectors leave as payloads, scores in the result."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlxbridge.errors import BridgeError, InternalError
from mlxbridge.host.embeddings.engine import VectorEngine
from mlxbridge.host.embeddings.request import EmbedRequest, RerankRequest
from mlxbridge.host.embeddings.task import Answer, Output
from mlxbridge.host.engine.memory import used_bytes
from mlxbridge.host.models.kind import refuse_method
from mlxbridge.host.params import estimate_bytes, parse_embed, parse_rerank
from mlxbridge.host.worker.results import fail_call
from mlxbridge.host.worker.service import origin_of
from mlxbridge.host.worker.tokenizing import METHODS, Codec, Inline, Tokenizing
from mlxbridge.protocol.events import CallOpened
from mlxbridge.protocol.host import HostConnection


class Vectors:
    """Answers ``embed``, or ``rerank``, whichever the model is for, and what is asked of its tokenizer."""

    def __init__(self, engine: VectorEngine, codec: Codec, connection: HostConnection, model: str) -> None:
        self.engine = engine
        self._connection = connection
        self._model = model
        self._tokenizing = Tokenizing(codec, Inline(), connection, model)

    @property
    def wait_s(self) -> float | None:
        """None without work; above 0 while calls wait for others to share their batch."""
        if (wait_s := self._tokenizing.wait_s) is not None:
            return wait_s
        return self.engine.wait_s if self.engine.has_work else None

    @property
    def tokens_total(self) -> int:
        """That the engine has read."""
        return self.engine.tokens_total

    def open(self, event: CallOpened) -> None:
        """Hand a call to the engine; errors as of ``VectorEngine.submit``."""
        if event.method in METHODS:
            self._tokenizing.open(event)
            return
        kind = self.engine.model.kind
        if event.method != kind:
            raise refuse_method(event.method, kind, self._model)
        params = event.params["request"]
        request = parse_embed(params) if kind == "embed" else parse_rerank(params)
        self.engine.submit(event.call, request, origin_of(event), num_bytes=estimate_bytes(params))

    def cancel(self, call: int) -> None:
        """End a call before the next batch."""
        if self._tokenizing.cancel(call):
            return
        if self.engine.cancel(call):
            self._connection.finish(call, {"finish_reason": "cancelled"})
        else:
            self._connection.fail(call, InternalError("the call was not open in the engine"))

    def turn(self) -> None:
        """Take one step, unless calls wait for others; send what came of it."""
        self._tokenizing.turn()
        if self.engine.has_work and self.engine.wait_s == 0:
            for answer in self.engine.step():
                self._answer(answer)

    def describe(self) -> dict[str, Any]:
        """The model's facts."""
        return self.engine.describe()

    def stats(self) -> dict[str, int]:
        """The engine's counters, and what the process has of the device's memory."""
        return {**self.engine.stats(), "used_bytes": used_bytes()}

    def close(self) -> None:
        """No more turns."""
        self._tokenizing.close()

    def _answer(self, answer: Answer) -> None:
        call, outcome = answer
        if isinstance(outcome, BridgeError):
            fail_call(self._connection, call, outcome)
            return
        result = {"model": self._model, **_usage(outcome)}
        if isinstance(outcome.request, RerankRequest):
            self._connection.finish(call, {**result, **_ranking(outcome.values, outcome.request.top_n)})
            return
        assert isinstance(outcome.request, EmbedRequest)
        values = outcome.values
        meta = {"dtype": outcome.request.dtype, "shape": list(values.shape)}
        self._connection.send_data(call, meta, values.data)
        self._connection.finish(call, result)


def _ranking(scores: np.ndarray[Any, Any], top_n: int | None) -> dict[str, Any]:
    """The best documents, of equal ones the first; SPEC.md §10."""
    order = np.argsort(-scores, kind="stable")[:top_n]
    return {"indices": order.tolist(), "scores": scores[order].tolist()}


def _usage(output: Output) -> dict[str, Any]:
    return {
        "prompt_tokens": output.num_tokens,
        "truncated": output.num_truncated,
        "queue_ms": output.queue_seconds * 1000,
        "compute_ms": output.compute_seconds * 1000,
    }
