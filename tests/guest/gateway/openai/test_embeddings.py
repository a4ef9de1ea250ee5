"""Vectors through openai's own clients, and ranked documents as Jina, vLLM and Cohere have them."""

from __future__ import annotations

import base64
import struct
from typing import Any

import httpx
import pytest

import mlxbridge
from tests.guest.gateway.openai.sdk import check
from tests.integration.hosts import HostProcess

QUERY, DOCUMENTS = "what eats mice", ["a dog", "a cat", "the moon"]


def test_vectors_are_those_of_the_host(client: Any, host: HostProcess) -> None:
    texts = ["A cat", "A dog"]
    with host.client() as own:
        wanted = own.embed(texts, model="finder").tolist()
    found = check(client.embeddings.create(model="finder", input=texts))  # asks for base64 by itself
    assert [one.index for one in found.data] == [0, 1]
    assert [one.embedding for one in found.data] == [pytest.approx(vector, abs=1e-6) for vector in wanted]
    numbers = client.embeddings.create(model="finder", input=texts, encoding_format="float")
    assert numbers.data[1].embedding == pytest.approx(wanted[1], abs=1e-6)
    assert found.usage.prompt_tokens == found.usage.total_tokens > 0


def test_vectors_may_be_cut_and_made_of_tokens(http: httpx.Client) -> None:
    asked = {
        "model": "finder",
        "input": [1, 4, 5, 2],
        "dimensions": 8,
        "normalize": False,
        "keep_alive": "1h",
    }
    found = http.post("/v1/embeddings", json=asked).json()
    assert len(found["data"][0]["embedding"]) == 8
    coded = http.post("/v1/embeddings", json={**asked, "encoding_format": "base64"}).json()
    numbers = struct.unpack("<8f", base64.b64decode(coded["data"][0]["embedding"]))
    assert list(numbers) == pytest.approx(found["data"][0]["embedding"], abs=1e-6)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"input": ["x", {}]}, "input"),
        ({"input": ["cat " * 2000, "x"]}, "input[0]"),
        ({"input": "x", "dimensions": 0}, "dimensions"),
        ({"input": "x", "colour": 1}, "colour"),
        ({"input": "x", "dtype": "float16"}, "dtype"),
        ({"input": "x", "model": "demo"}, "model"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_the_host_cannot_do_is_refused_by_name(http: httpx.Client, given: Any, param: str) -> None:
    answer = http.post("/v1/embeddings", json={"model": "finder", **given})
    assert answer.status_code == 400 and answer.json()["error"]["param"].startswith(param), answer.text


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_documents_are_ranked_as_the_host_does(http: httpx.Client, host: HostProcess, path: str) -> None:
    with mlxbridge.Client(host.url) as own:
        wanted = [(one.index, one.score) for one in own.rerank(QUERY, DOCUMENTS, model="judge")]
    asked = {"model": "judge", "query": QUERY, "documents": DOCUMENTS}
    found = http.post(path, json=asked).json()
    assert [one["index"] for one in found["results"]] == [index for index, _ in wanted]
    assert [one["relevance_score"] for one in found["results"]] == pytest.approx(
        [score for _, score in wanted]
    )
    assert all(one["document"]["text"] == DOCUMENTS[one["index"]] for one in found["results"])
    assert found["usage"]["total_tokens"] == found["meta"]["tokens"]["input_tokens"] > 0


def test_ranking_may_be_short_and_without_documents(http: httpx.Client) -> None:
    documents = [DOCUMENTS[0], {"text": DOCUMENTS[1]}]
    asked = {"model": "judge", "query": QUERY, "documents": documents, "top_n": 1, "activation": "none"}
    (one,) = http.post("/rerank", json={**asked, "return_documents": False}).json()["results"]
    assert one.keys() == {"index", "relevance_score"}


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"query": 1}, "query"),
        ({"documents": "x"}, "documents"),
        ({"documents": ["x", {"title": "y"}]}, "documents[1]"),
        ({"top_n": 0}, "top_n"),
        ({"return_documents": "yes"}, "return_documents"),
        ({"rank_fields": ["a"]}, "rank_fields"),
        ({"model": "demo"}, "model"),
    ],
    ids=str,
)
def test_what_cannot_be_ranked_is_refused_by_name(http: httpx.Client, given: Any, param: str) -> None:
    asked = {"model": "judge", "query": QUERY, "documents": DOCUMENTS, **given}
    answer = http.post("/v1/rerank", json=asked)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
