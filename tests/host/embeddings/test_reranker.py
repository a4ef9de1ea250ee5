"""Cross-encoders against transformers' own implementation (``make_references``), and what a request may ask of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxbridge.errors import ContextTooLong, InvalidArgument, ModelLoadFailed
from mlxbridge.host.embeddings.loader import load_reranker
from mlxbridge.host.embeddings.request import RerankRequest
from mlxbridge.host.embeddings.reranker import Reranker
from mlxbridge.host.embeddings.tokenizer import Tokens
from tests.host.embeddings.checkpoints import save_json, save_model

FAMILIES = ["bert", "xlm-roberta", "modernbert", "modernbert-mean"]
IDENTITY = "torch.nn.modules.linear.Identity"
DOCUMENTS = ["the cat sat", "a dog", "who", "the house on the mat sat a dog"]


@pytest.fixture
def reranker(classifiers: dict[str, Any], tmp_path: Path) -> Reranker:
    return load_reranker(save_model(tmp_path, classifiers["bert"], pooling=None), "mine")


def pairs(reference: dict[str, Any]) -> list[Tokens]:
    return [
        Tokens(ids, [int(2 * place >= len(ids)) for place in range(len(ids))]) for ids in reference["inputs"]
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_equal_transformers(classifiers: dict[str, Any], tmp_path: Path, name: str) -> None:
    reference = classifiers[name]
    reranker = load_reranker(save_model(tmp_path, reference, pooling=None), "mine")
    together = reranker.compute(pairs(reference))
    alone = [reranker.compute([pair])[0] for pair in pairs(reference)]
    np.testing.assert_allclose(together, reference["logits"], atol=3e-4)
    np.testing.assert_allclose(alone, reference["logits"], atol=3e-4)


@pytest.mark.parametrize(("name", "prefix"), [("bert", "bert."), ("xlm-roberta", "roberta.")])
def test_table_of_positions_in_the_backbone_is_left_out(
    classifiers: dict[str, Any], tmp_path: Path, name: str, prefix: str
) -> None:
    reference = classifiers[name]
    shapes = {**reference["shapes"], f"{prefix}embeddings.position_ids": [1, 8]}
    reranker = load_reranker(save_model(tmp_path, {**reference, "shapes": shapes}, pooling=None), "mine")
    np.testing.assert_allclose(reranker.compute(pairs(reference)), reference["logits"], atol=3e-4)


def test_score_is_that_of_each_document_alone(reranker: Reranker) -> None:
    answer = reranker.score(RerankRequest(query="who sat", documents=DOCUMENTS), batch_tokens=20)
    assert answer.scores.shape == (4,) and answer.scores.dtype == np.float32
    assert answer.num_tokens == [8, 7, 6, 13]
    for document, score in zip(DOCUMENTS, answer.scores, strict=True):
        alone = reranker.score(RerankRequest(query="who sat", documents=[document])).scores
        np.testing.assert_allclose(alone, [score], atol=1e-5)


def test_second_text_is_told_from_the_first(reranker: Reranker) -> None:
    """Were it not, the same tokens split elsewhere would get the same score."""
    (pair,) = reranker.read(RerankRequest(query="who sat", documents=["cat"]))
    assert pair.type_ids == [0, 0, 0, 0, 1, 1]
    one = reranker.compute([pair, Tokens(pair.ids, [0] * 6)])
    assert abs(one[0] - one[1]) > 1e-3


def test_model_that_is_not_told_types_gets_none(classifiers: dict[str, Any], tmp_path: Path) -> None:
    folder = save_model(tmp_path, classifiers["bert"], pooling=None)
    save_json(folder / "tokenizer_config.json", {"model_input_names": ["input_ids", "attention_mask"]})
    (pair,) = load_reranker(folder, "mine").read(RerankRequest(query="who sat", documents=["cat"]))
    assert pair.type_ids == [0] * 6


def test_scores_are_sigmoids_of_logits_unless_said_otherwise(reranker: Reranker) -> None:
    logits = reranker.score(RerankRequest(query="who", documents=DOCUMENTS, activation="none")).scores
    scores = reranker.score(RerankRequest(query="who", documents=DOCUMENTS)).scores
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_activation_is_read_from_the_files(classifiers: dict[str, Any], tmp_path: Path) -> None:
    folder = save_model(
        tmp_path, classifiers["bert"], pooling=None, sentence_transformers={"activation_fn": IDENTITY}
    )
    reranker = load_reranker(folder, "mine")
    raw = RerankRequest(query="who", documents=DOCUMENTS)
    sigmoid = RerankRequest(query="who", documents=DOCUMENTS, activation="sigmoid")
    logits = reranker.score(raw).scores
    np.testing.assert_allclose(reranker.score(sigmoid).scores, 1 / (1 + np.exp(-logits)), atol=1e-6)
    save_json(folder / "config_sentence_transformers.json", {"activation_fn": "torch.nn.Softmax"})
    with pytest.raises(ModelLoadFailed, match="Softmax"):
        load_reranker(folder, "mine")


def test_large_logits_stay_numbers(reranker: Reranker) -> None:
    request = RerankRequest(query="who", documents=["a"])
    scores = reranker.finish(np.array([-1e30, -200, 0, 200, 1e30], np.float32), request)
    np.testing.assert_allclose(scores, [0, 0, 0.5, 1, 1], atol=1e-6)


def test_pair_over_the_limit_is_refused_or_cut(reranker: Reranker) -> None:
    documents = ["cat", "cat " * 60]
    with pytest.raises(ContextTooLong, match=r"documents\[1\] has 64 tokens, but mine takes 48"):
        reranker.score(RerankRequest(query="who", documents=documents))
    answer = reranker.score(RerankRequest(query="who", documents=documents, truncate=True))
    assert answer.num_tokens == [5, 48]


def test_half_a_character_is_refused_by_name(reranker: Reranker) -> None:
    with pytest.raises(InvalidArgument) as caught:
        reranker.score(RerankRequest(query="who", documents=["cat", "\ud83d"]))
    assert caught.value.details == {"field": "documents[1]"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id2label": {"0": "no", "1": "yes"}}, "2 labels"),
        ({"id2label": None}, "2 labels"),
        ({"model_type": "qwen3"}, "qwen3 is no reranker"),
    ],
)
def test_what_is_no_reranker_is_refused(
    classifiers: dict[str, Any], tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    folder = save_model(tmp_path, classifiers["bert"], pooling=None, **changes)
    with pytest.raises(ModelLoadFailed, match=reason):
        load_reranker(folder, "mine")


def test_encoder_without_a_head_is_no_reranker(
    models: dict[str, Any], classifiers: dict[str, Any], tmp_path: Path
) -> None:
    config = classifiers["bert"]["config"]
    folder = save_model(tmp_path, {**models["bert"], "config": config}, pooling=None)
    with pytest.raises(ModelLoadFailed, match="do not fit"):
        load_reranker(folder, "mine")
