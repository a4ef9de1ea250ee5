"""Embedding models and a reranker behind a real host: what guests get, alone and many at once, is what the models say."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxbridge import AsyncClient, Client
from mlxbridge.errors import (
    BridgeError,
    ContextTooLong,
    DeadlineExceeded,
    InvalidArgument,
    ModelLoadFailed,
    Unsupported,
    WorkerLost,
)
from mlxbridge.host.embeddings.encoder import Encoder
from mlxbridge.host.embeddings.loader import load_encoder, load_reranker
from mlxbridge.host.embeddings.request import EmbedRequest, RerankRequest
from mlxbridge.host.embeddings.reranker import Reranker
from tests.host.embeddings.checkpoints import WORDS, save_json, save_model
from tests.integration.hosts import TRANSPORTS, HostProcess, run_host

REFERENCES: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "host" / "embeddings" / "references.json").read_text()
)
NUM_GUESTS = 20


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    models, classifiers = REFERENCES["models"], REFERENCES["classifiers"]
    found = {
        "finder": save_model(root / "finder", models["bert"], normalizes=True),
        "judge": save_model(
            root / "judge",
            classifiers["bert"],
            pooling=None,
            architectures=["BertForSequenceClassification"],
        ),
        "unsaid": save_model(root / "unsaid", models["bert"], pooling=None),
    }
    prompts = {"prompts": {"query": "query : "}}
    save_json(found["finder"] / "config_sentence_transformers.json", prompts)
    return found


@pytest.fixture(scope="module")
def vectors_host(folders: dict[str, Path]) -> Iterator[HostProcess]:
    with run_host(TRANSPORTS[0], models=("demo", *map(str, folders.values()))) as running:
        yield running


@pytest.fixture
def client(vectors_host: HostProcess) -> Iterator[Client]:
    with vectors_host.client(timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def encoder(folders: dict[str, Path]) -> Encoder:
    return load_encoder(folders["finder"], "finder")


@pytest.fixture(scope="module")
def reranker(folders: dict[str, Path]) -> Reranker:
    return load_reranker(folders["judge"], "judge")


def texts(seed: int, count: int) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, draw.integers(0, 40))) for _ in range(count)]


def test_models_tell_what_they_are_for(client: Client) -> None:
    for name in ("demo", "finder", "judge"):
        client.load_model(name)
    details = {model.name: model.details for model in client.list_models()}
    assert [details[name].get("kind") for name in ("demo", "finder", "judge")] == [
        "generate",
        "embed",
        "rerank",
    ]
    assert (details["finder"]["dimensions"], details["finder"]["prompts"]) == (32, ["query"])


def test_vectors_are_the_models_own(client: Client, encoder: Encoder) -> None:
    inputs: list[str | list[int]] = [*texts(1, 50), [1, 4, 5, 2]]
    found = client.embed(inputs, model="finder")
    wanted = encoder.encode(EmbedRequest(inputs=inputs))
    np.testing.assert_allclose(found.numpy(), wanted.vectors, atol=1e-5)
    assert found.shape == (51, 32)
    assert found.usage.prompt_tokens == sum(wanted.num_tokens)
    cut = client.embed(
        "cat", model="finder", dimensions=8, dtype="float16", prompt_name="query", normalize=None
    )
    (wanted_cut,) = encoder.encode(
        EmbedRequest(inputs=["query : cat"], dimensions=8, dtype="float16")
    ).vectors
    np.testing.assert_allclose(cut.numpy()[0], wanted_cut, atol=1e-3)


def test_raw_vectors_are_given_when_asked_for(client: Client, encoder: Encoder) -> None:
    raw = client.embed("cat", model="finder", normalize=False).numpy()
    np.testing.assert_allclose(
        raw, encoder.encode(EmbedRequest(inputs=["cat"], normalize=False)).vectors, rtol=1e-4
    )
    assert abs(np.linalg.norm(raw) - 1) > 0.1


def test_answer_of_more_than_a_window_arrives(client: Client) -> None:
    inputs = [word for word in WORDS for _ in range(2000)]
    found = client.embed(inputs, model="finder").numpy()
    assert found.nbytes > 3_000_000 and np.isfinite(found).all()
    first = found[::2000]
    np.testing.assert_allclose(found, np.repeat(first, 2000, axis=0), atol=1e-5)


def test_documents_are_ranked_as_the_model_scores_them(client: Client, reranker: Reranker) -> None:
    documents = [*texts(2, 30), "cat", "cat"]
    scores = reranker.score(RerankRequest(query="who sat", documents=documents)).scores
    order = np.argsort(-scores, kind="stable")
    found = client.rerank("who sat", documents, model="judge")
    np.testing.assert_allclose([one.score for one in found], scores[order], atol=1e-5)
    assert all(one.document == documents[one.index] for one in found)
    best = client.rerank("who sat", documents, model="judge", top_n=3)
    assert [one.index for one in best] == [one.index for one in found][:3]
    logits = client.rerank("who sat", documents, model="judge", activation="none")
    np.testing.assert_allclose(1 / (1 + np.exp([-one.score for one in logits])), scores[order], atol=1e-5)
    assert len(client.rerank("who sat", [], model="judge")) == 0


def test_many_guests_at_once_each_have_their_own(
    vectors_host: HostProcess, encoder: Encoder, reranker: Reranker
) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with vectors_host.client(timeout=60) as client:
                for turn in range(5):
                    own = texts(100 * number + turn, 1 + (number + turn) % 9)
                    if number % 4 == 3:
                        ranking = client.rerank("who", own, model="judge")
                        scores = reranker_scores[number, turn]
                        np.testing.assert_allclose(
                            [one.score for one in ranking], np.sort(scores)[::-1], atol=1e-5
                        )
                    else:
                        found = client.embed(own, model="finder").numpy()
                        np.testing.assert_allclose(found, encoder_vectors[number, turn], atol=1e-5)
        except BaseException as error:
            failures.append(error)

    encoder_vectors, reranker_scores = {}, {}
    for number in range(NUM_GUESTS):
        for turn in range(5):
            own = texts(100 * number + turn, 1 + (number + turn) % 9)
            if number % 4 == 3:
                request = RerankRequest(query="who", documents=own)
                reranker_scores[number, turn] = reranker.score(request).scores
            else:
                encoder_vectors[number, turn] = encoder.encode(EmbedRequest(inputs=own)).vectors
    threads = [threading.Thread(target=work, args=(number,)) for number in range(NUM_GUESTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    with vectors_host.client() as client:
        details = {model.name: model.details for model in client.status().models}
    assert details["finder"]["batches_total"] < details["finder"]["inputs_total"]
    assert details["finder"]["running"] == details["finder"]["waiting"] == 0


async def test_calls_of_an_async_client_run_together(vectors_host: HostProcess, encoder: Encoder) -> None:
    async with AsyncClient(vectors_host.url, token=vectors_host.token, timeout=60) as client:
        found = await asyncio.gather(*(client.embed(texts(i, 3), model="finder") for i in range(30)))
    for i, one in enumerate(found):
        wanted = encoder.encode(EmbedRequest(inputs=texts(i, 3))).vectors
        np.testing.assert_allclose(one.numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "model", "hint"),
    [
        ("embed", "demo", "ask it with generate or generate_many"),
        ("rerank", "demo", "ask it with generate"),
        ("generate", "finder", "ask it with embed"),
        ("rerank", "finder", "ask it with embed"),
        ("embed", "judge", "ask it with rerank"),
    ],
)
def test_method_that_is_not_for_the_model_is_refused(
    client: Client, method: str, model: str, hint: str
) -> None:
    arguments: list[Any] = ["x", ["y"]] if method == "rerank" else ["x"]
    with pytest.raises(Unsupported, match=hint) as caught:
        getattr(client, method)(*arguments, model=model)
    assert caught.value.details["field"] == "model"


def test_input_over_the_limit_is_refused_by_its_place_or_cut(client: Client) -> None:
    inputs = ["cat", "cat " * 100]
    with pytest.raises(ContextTooLong, match="truncate") as caught:
        client.embed(inputs, model="finder")
    details = caught.value.details
    assert (details["field"], details["num_tokens"], details["max_tokens"]) == ("inputs[1]", 102, 48)
    found = client.embed(inputs, model="finder", truncate=True)
    assert found.usage.truncated == 1 and found.usage.prompt_tokens == 3 + 48


def test_wrong_arguments_are_refused_by_name(client: Client) -> None:
    for options in ({"dimensions": 33}, {"dtype": "int8"}, {"prompt_name": "qury"}, {"truncate": 1}):
        with pytest.raises(InvalidArgument) as caught:
            client.embed("cat", model="finder", **options)
        assert caught.value.details["field"] == next(iter(options))


def test_model_that_does_not_say_how_it_pools_is_not_guessed_at(client: Client) -> None:
    with pytest.raises(ModelLoadFailed, match="pools"):
        client.embed("cat", model="unsaid")


def test_late_call_and_dead_worker_are_told(client: Client) -> None:
    many = ["cat " * 40] * 8_000
    with pytest.raises(DeadlineExceeded):
        client.embed(many, model="finder", timeout=0.3)
    assert client.embed("cat", model="finder").shape == (1, 32), "what is late is dropped"
    pid = next(m.details["pid"] for m in client.status().models if m.name == "finder")
    failures: list[BridgeError] = []

    def ask() -> None:
        try:
            client.embed(many, model="finder")
        except BridgeError as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while next(m for m in client.status().models if m.name == "finder").details.get("running") != 1:
        assert thread.is_alive()
    os.kill(int(pid), signal.SIGKILL)
    thread.join(30)
    assert [type(error) for error in failures] == [WorkerLost]
    assert client.embed("cat", model="finder").shape == (1, 32)
