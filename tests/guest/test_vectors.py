"""``embed`` and ``rerank`` of both clients, against a host that does what the test says, over a real socket."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

from mlxbridge import AsyncClient, Client, Embeddings, EmbedOptions, InputUsage
from mlxbridge.errors import (
    ConnectionLost,
    DeadlineExceeded,
    Overloaded,
    RemoteProtocolError,
    UsageError,
)
from mlxbridge.guest.requests import NOT_SENT
from mlxbridge.guest.vectors import EMBED_OPTIONS, RERANK_OPTIONS, embed_params
from mlxbridge.host.params import EMBED_PARAMS, RERANK_PARAMS
from mlxbridge.protocol import HostConnection
from mlxbridge.protocol.events import CallOpened, Event
from tests.guest.script_host import ScriptHost, script_host

RESULT = {"model": "script", "prompt_tokens": 7, "truncated": 1, "queue_ms": 250.0, "compute_ms": 500}
LARGE = np.arange(3_000_000, dtype=np.float32).reshape(-1, 300)  # many pieces
HALF = np.array([[1.5, -2.0], [0.25, 65504.0]], np.float16)
ANSWERS: dict[str, tuple[dict[str, Any], bytes]] = {
    "three numbers": ({"dtype": "float32", "shape": [1, 2]}, b"\0" * 12),
    "other type": ({"dtype": "int8", "shape": [1, 4]}, b"\0" * 4),
    "odd type": ({"dtype": ["float32"], "shape": [1, 1]}, b"\0" * 4),
    "one axis": ({"dtype": "float32", "shape": [4]}, b"\0" * 16),
    "no shape": ({"dtype": "float32"}, b"\0" * 16),
    "below zero": ({"dtype": "float32", "shape": [-1, -4]}, b"\0" * 16),
}
RANKINGS: dict[str, dict[str, Any]] = {
    "outside": {"indices": [2], "scores": [0.5]},
    "unequal": {"indices": [0, 1], "scores": [0.5]},
    "missing": {},
    "texts": {"indices": [0], "scores": ["0.5"]},
}


def react(connection: HostConnection, event: Event) -> None:
    if not isinstance(event, CallOpened):
        return
    call, params = event.call, event.params
    if event.method == "rerank":
        result = RANKINGS.get(params["query"], {"indices": [1, 0], "scores": [0.75, 0.25]})
        connection.finish(call, {**RESULT, **result})
        return
    kind = params["inputs"][0] if params["inputs"] else ""
    if kind == "busy":
        connection.fail(call, Overloaded("busy"))
    elif kind == "hang":
        return
    elif kind == "cut":
        connection.send_data(call, {"dtype": "float32", "shape": list(LARGE.shape)}, LARGE.data)
        connection.close()
    elif kind == "none":
        connection.finish(call, RESULT)
    elif kind in ANSWERS:
        connection.send_data(call, *ANSWERS[kind])
        connection.finish(call, RESULT)
    else:
        arrays: dict[str, np.ndarray[Any, Any]] = {"large": LARGE, "half": HALF}
        array = arrays.get(kind, np.zeros((0, 5), np.float32))
        connection.send_data(call, {"dtype": str(array.dtype), "shape": list(array.shape)}, array.data)
        connection.finish(call, RESULT)


@pytest.fixture
def host(path: str) -> Iterator[ScriptHost]:
    with script_host(path, react) as host:
        yield host


@pytest.fixture
def client(host: ScriptHost) -> Iterator[Client]:
    with Client(host.url, timeout=10) as client:
        yield client


def check_large(found: Embeddings) -> None:
    assert (found.shape, found.dtype, found.model, len(found)) == ((10_000, 300), "float32", "script", 10_000)
    assert found.usage == InputUsage(prompt_tokens=7, truncated=1, queue_seconds=0.25, compute_seconds=0.5)
    array = found.numpy()
    np.testing.assert_array_equal(array, LARGE)
    assert np.shares_memory(array, np.frombuffer(found.data, np.uint8))
    assert array.dtype == np.float32


def test_many_vectors_arrive_in_one_buffer(client: Client) -> None:
    check_large(client.embed("large"))


async def test_many_async_vectors_arrive_in_one_buffer(host: ScriptHost) -> None:
    async with AsyncClient(host.url, timeout=10) as client:
        check_large(await client.embed("large"))


def test_half_precision_is_given_as_such(client: Client) -> None:
    found = client.embed(["half"])
    assert (found.dtype, found.shape, len(found.data)) == ("float16", (2, 2), 8)
    assert found.tolist() == [[1.5, -2.0], [0.25, 65504.0]]
    assert found.numpy().dtype == np.float16


def test_vectors_are_a_sequence(client: Client) -> None:
    found = client.embed(["half"])
    assert [*found] == found.tolist() == [found[0], found[1]] == [found[-2], found[-1]] == found[:]
    assert found[1:] == [[0.25, 65504.0]]
    for place in (2, -3):
        with pytest.raises(IndexError, match="there are 2 vectors"):
            found[place]


def test_numpy_takes_vectors_as_an_array(client: Client) -> None:
    found = client.embed(["half"])
    array = np.asarray(found)
    assert array.shape == (2, 2) and array.dtype == np.float16
    assert np.shares_memory(array, found.numpy()) and not np.shares_memory(np.array(found), array)
    assert np.asarray(found, np.float32).tolist() == found.tolist()


def test_no_inputs_have_no_vectors(client: Client) -> None:
    found = client.embed([])
    assert (found.shape, found.tolist(), found.numpy().shape) == ((0, 5), [], (0, 5))
    assert [*found] == [] and np.asarray(found).shape == (0, 5)


@pytest.mark.parametrize("kind", ["none", *ANSWERS])
def test_answer_that_is_none_is_an_error(client: Client, kind: str) -> None:
    with pytest.raises(RemoteProtocolError, match="embed"):
        client.embed([kind])
    assert client.embed(["half"]).shape == (2, 2)


@pytest.mark.parametrize("kind", list(RANKINGS))
async def test_ranking_that_is_none_is_an_error(host: ScriptHost, kind: str) -> None:
    async with AsyncClient(host.url, timeout=10) as client:
        with pytest.raises(RemoteProtocolError, match="rerank"):
            await client.rerank(kind, ["a", "b"])


def test_ranking_names_the_documents(client: Client) -> None:
    found = client.rerank("who", (document for document in ("a", "b")))
    assert [(one.index, one.score, one.document) for one in found] == [(1, 0.75, "b"), (0, 0.25, "a")]
    assert (len(found), found[0].document, found.model, found.usage.prompt_tokens) == (2, "b", "script", 7)


async def test_errors_of_the_host_and_of_the_link_are_raised(host: ScriptHost, client: Client) -> None:
    with pytest.raises(Overloaded):
        client.embed("busy")
    with pytest.raises(DeadlineExceeded):
        client.embed("hang", timeout=0.05)
    with pytest.raises(ConnectionLost):
        client.embed("cut")
    async with AsyncClient(host.url, timeout=10) as other:
        with pytest.raises(Overloaded):
            await other.embed("busy")
        with pytest.raises(DeadlineExceeded):
            await other.embed("hang", timeout=0.05)
        with pytest.raises(ConnectionLost):
            await other.embed("cut")


@pytest.mark.parametrize(
    ("inputs", "sent"),
    [
        ("one", ["one"]),
        (["a", "b"], ["a", "b"]),
        ((text for text in "ab"), ["a", "b"]),
        ([1, 2], [struct.pack("<2I", 1, 2)]),
        (["a", [1, 2], (3,)], ["a", struct.pack("<2I", 1, 2), struct.pack("<I", 3)]),
        (np.array([1, 2]), [struct.pack("<2I", 1, 2)]),
        (np.array([[1, 2], [3, 4]]), [struct.pack("<2I", 1, 2), struct.pack("<2I", 3, 4)]),
        ([], []),
    ],
)
def test_inputs_are_texts_or_token_ids_or_several(inputs: Any, sent: list[Any]) -> None:
    assert embed_params(inputs, {}) == {"inputs": sent, "normalize": True}


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        (b"bytes", "inputs"),
        (3, "inputs"),
        ({"a": 1}, "inputs"),
        (["a", b"b"], r"inputs\[1\]"),
        (["a", None], r"inputs\[1\]"),
        (["a", [-1]], r"inputs\[1\]"),
        ([True, False], r"inputs\[0\]"),
        (["a"] * 65_537, "inputs: a call takes 65536, not 65537"),
        (["a", ["b"]], r"inputs\[1\]"),
    ],
)
def test_inputs_that_are_none_are_refused_by_their_place(inputs: Any, field: str) -> None:
    with pytest.raises(UsageError, match=f"^{field}: "):
        embed_params(inputs, {})


def test_options_are_the_params_of_the_host() -> None:
    assert EMBED_PARAMS - {"inputs"} == EMBED_OPTIONS - NOT_SENT
    assert RERANK_PARAMS - {"query", "documents"} == RERANK_OPTIONS - NOT_SENT


def test_only_what_was_given_is_sent() -> None:
    given = {"normalize": None, "dtype": None, "dimensions": 8, "timeout": 3.0}
    assert embed_params("a", cast(EmbedOptions, given)) == {"inputs": ["a"], "dimensions": 8}
    with pytest.raises(UsageError, match="^dimension: .*'dimensions'"):
        embed_params("a", cast(EmbedOptions, {"dimension": 8}))


@pytest.mark.parametrize("documents", ["text", b"bytes", 3])
def test_documents_that_are_not_several_are_refused(client: Client, documents: Any) -> None:
    with pytest.raises(UsageError, match="^documents: "):
        client.rerank("query", documents)
    with pytest.raises(UsageError, match="^documents: a call takes 65536, not 65537: "):
        client.rerank("query", ["a"] * 65_537)


def test_without_numpy_the_error_says_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    usage = InputUsage(prompt_tokens=0)
    found = Embeddings(shape=(0, 5), dtype="float32", data=memoryview(b""), model="m", usage=usage)
    with pytest.raises(ImportError, match=r"tolist\(\)"):
        found.numpy()
