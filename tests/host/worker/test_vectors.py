"""Embedding models and rerankers in the worker's loop, over a real socket, turned by hand."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxbridge.errors import (
    ContextTooLong,
    DeadlineExceeded,
    InvalidArgument,
    UnknownMethod,
    Unsupported,
)
from mlxbridge.host.embeddings.encoder import Encoder
from mlxbridge.host.embeddings.engine import VectorEngine
from mlxbridge.host.embeddings.loader import load_encoder, load_reranker
from mlxbridge.host.embeddings.request import EmbedRequest, RerankRequest
from mlxbridge.host.embeddings.reranker import Reranker
from mlxbridge.host.worker.loop import Tell, WorkerLoop
from mlxbridge.host.worker.service import Serve
from mlxbridge.host.worker.vectors import Vectors
from mlxbridge.protocol.events import DataReceived, ErrorReceived, ResultReceived
from tests.host.embeddings.checkpoints import save_model
from tests.host.worker.front_end import FrontEnd

REFERENCES: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "embeddings" / "references.json").read_text()
)
Start = Callable[[Encoder | Reranker], FrontEnd]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(save_model(tmp_path_factory.mktemp("m"), REFERENCES["models"]["bert"]), "mine")


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    folder = save_model(tmp_path_factory.mktemp("r"), REFERENCES["classifiers"]["bert"], pooling=None)
    return load_reranker(folder, "judge")


@pytest.fixture
def start() -> Iterator[Start]:
    sockets: list[socket.socket] = []

    def start(model: Encoder | Reranker) -> FrontEnd:
        def load_model(params: Mapping[str, Any], tell: Tell) -> Serve:
            return partial(Vectors, VectorEngine(model), model.codec)

        ours, theirs = socket.socketpair()
        sockets.extend((ours, theirs))
        front = FrontEnd(ours, WorkerLoop(theirs, load_model))
        front.turn()
        call = front.connection.open_call("load", {"name": model.name})
        front.turn()
        end = front.end(call)
        assert isinstance(end, ResultReceived) and end.result["kind"] == model.kind
        return front

    yield start
    for sock in sockets:
        sock.close()


def ask(front: FrontEnd, method: str, *, deadline_ms: int | None = None, **params: Any) -> int:
    request = {"request": params, "guest": "someone", "cache_scope": ""}
    return front.connection.open_call(method, request, deadline_ms=deadline_ms)


def end(front: FrontEnd, call: int) -> ResultReceived | ErrorReceived:
    while (found := front.end(call)) is None:
        front.turn()
    return found


def payload(front: FrontEnd, call: int) -> DataReceived:
    (found,) = [event for event in front.events if isinstance(event, DataReceived) and event.call == call]
    return found


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_come_as_one_payload_before_the_result(start: Start, encoder: Encoder, dtype: str) -> None:
    front = start(encoder)
    ids = np.array([1, 4, 2], "<u4").tobytes()
    call = ask(front, "embed", inputs=["cat", "the dog sat", ids], dtype=dtype, normalize=True)
    found = end(front, call)
    assert isinstance(found, ResultReceived)
    assert (found.result["model"], found.result["prompt_tokens"], found.result["truncated"]) == (
        "mine",
        11,
        0,
    )
    assert found.result["queue_ms"] >= 0 < found.result["compute_ms"]
    data = payload(front, call)
    assert (data.meta["dtype"], data.meta["shape"]) == (dtype, [3, 32])
    assert data.meta["nbytes"] == len(data.data) == 3 * 32 * np.dtype(dtype).itemsize
    wanted = encoder.encode(
        EmbedRequest(inputs=["cat", "the dog sat", [1, 4, 2]], dtype=dtype, normalize=True)  # type: ignore[arg-type]
    )
    got = np.frombuffer(data.data, dtype).reshape(3, 32)
    np.testing.assert_allclose(got, wanted.vectors, atol=1e-3 if dtype == "float16" else 1e-5)


def test_no_inputs_come_to_an_empty_payload(start: Start, encoder: Encoder) -> None:
    front = start(encoder)
    call = ask(front, "embed", inputs=[])
    assert isinstance(end(front, call), ResultReceived)
    assert payload(front, call).meta["shape"] == [0, 32] and not payload(front, call).data


def test_ranking_has_the_best_first(start: Start, reranker: Reranker) -> None:
    front = start(reranker)
    documents = ["the cat", "a dog sat on the mat", "who", "house", "the cat"]
    scores = reranker.score(RerankRequest(query="cat", documents=documents)).scores
    call = ask(front, "rerank", query="cat", documents=documents)
    best = ask(front, "rerank", query="cat", documents=documents, top_n=2)
    none = ask(front, "rerank", query="cat", documents=[])
    found = end(front, call)
    assert isinstance(found, ResultReceived)
    order = np.argsort(-scores, kind="stable")
    assert found.result["indices"] == order.tolist()
    np.testing.assert_allclose(found.result["scores"], scores[order], atol=1e-5)
    two, nothing = end(front, best), end(front, none)
    assert isinstance(two, ResultReceived) and two.result["indices"] == order[:2].tolist()
    assert isinstance(nothing, ResultReceived) and nothing.result["indices"] == []


@pytest.mark.parametrize(
    ("method", "params", "error", "field"),
    [
        ("generate", {"prompt": "x"}, Unsupported, "model"),
        ("generate_many", {"requests": []}, Unsupported, "model"),
        ("rerank", {"query": "x", "documents": []}, Unsupported, "model"),
        ("embed", {"inputs": ["x"], "dimensions": 33}, InvalidArgument, "dimensions"),
        ("embed", {"inputs": ["x"], "top_p": 1}, InvalidArgument, "top_p"),
        ("embed", {"inputs": ["x", b"123"]}, InvalidArgument, "inputs[1]"),
        ("embed", {"inputs": ["x", "cat " * 600]}, ContextTooLong, "inputs[1]"),
        ("juggle", {}, UnknownMethod, None),
    ],
)
def test_what_cannot_be_done_is_refused_by_name_and_alone(
    start: Start, encoder: Encoder, method: str, params: dict[str, Any], error: type, field: str | None
) -> None:
    front = start(encoder)
    good = ask(front, "embed", inputs=["cat"])
    bad = ask(front, method, **params)
    refused = end(front, bad)
    assert isinstance(refused, ErrorReceived) and isinstance(refused.error, error)
    assert refused.error.details.get("field") == field
    assert isinstance(end(front, good), ResultReceived)


def test_cancelled_call_ends_before_the_next_batch(start: Start, encoder: Encoder) -> None:
    front = start(encoder)
    large = ask(front, "embed", inputs=["cat " * 40] * 400)
    front.turn()
    assert front.end(large) is None
    front.connection.cancel(large)
    front.turn()
    found = front.end(large)
    assert isinstance(found, ResultReceived) and found.result["finish_reason"] == "cancelled"
    stats = ask(front, "stats")
    counted = end(front, stats)
    assert isinstance(counted, ResultReceived)
    assert counted.result["inputs_total"] < 100 and not counted.result["running"]
    assert not [event for event in front.events if isinstance(event, DataReceived)]


def test_deadline_of_the_call_ends_it(start: Start, encoder: Encoder) -> None:
    front = start(encoder)
    late = end(front, ask(front, "embed", inputs=["cat"], deadline_ms=0))
    assert isinstance(late, ErrorReceived) and isinstance(late.error, DeadlineExceeded)
    assert isinstance(end(front, ask(front, "embed", inputs=["cat"], deadline_ms=60_000)), ResultReceived)
