from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxbridge.errors import ContextTooLong, InternalError, InvalidArgument
from mlxbridge.host.embeddings.encoder import Encoder
from mlxbridge.host.embeddings.loader import load_encoder
from mlxbridge.host.embeddings.request import EmbedRequest
from tests.host.embeddings.checkpoints import save_json, save_model, save_weights, seeded

Make = Callable[..., Encoder]
TEXTS = ["cat", "the dog sat on the mat", "", "who where house"]
PROMPTS = {"query": "query : ", "document": ""}


def vectors(encoder: Encoder, inputs: Any = TEXTS, **options: Any) -> np.ndarray[Any, Any]:
    return encoder.encode(EmbedRequest(inputs=inputs, **options)).vectors


def with_prompts(models: dict[str, Any], folder: Path, **settings: Any) -> Encoder:
    save_model(folder, models["bert"])
    save_json(folder / "config_sentence_transformers.json", {"prompts": PROMPTS, **settings})
    return load_encoder(folder, "mine")


def refused(field: str, encoder: Encoder, inputs: Any = TEXTS, **options: Any) -> str:
    with pytest.raises(InvalidArgument) as caught:
        vectors(encoder, inputs, **options)
    assert caught.value.details["field"] == field
    return caught.value.message


def test_answer_has_a_vector_and_a_token_count_for_each_input(make: Make) -> None:
    answer = make().encode(EmbedRequest(inputs=TEXTS))
    assert answer.vectors.shape == (4, 32) and answer.vectors.dtype == np.float32
    assert answer.num_tokens == [3, 8, 2, 5]


def test_texts_and_ids_may_stand_side_by_side(make: Make) -> None:
    encoder = make()
    (cat,) = encoder.read(EmbedRequest(inputs=["cat"]))
    both = vectors(encoder, [cat.ids, "who", "cat"])
    np.testing.assert_allclose(both[0], both[2], atol=1e-5)
    np.testing.assert_allclose(both[1], vectors(encoder, ["who"])[0], atol=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 16, 1000])
def test_batches_do_not_change_vectors(make: Make, batch_tokens: int) -> None:
    encoder = make("modernbert")
    texts = ["cat " * length for length in range(1, 40, 5)]
    request = EmbedRequest(inputs=texts)
    alone = np.concatenate([vectors(encoder, [text]) for text in texts])
    np.testing.assert_allclose(encoder.encode(request, batch_tokens=batch_tokens).vectors, alone, atol=1e-4)


@pytest.mark.parametrize("normalizes", [True, False])
def test_vectors_are_normalized_as_the_files_say(make: Make, normalizes: bool) -> None:
    encoder = make(normalizes=normalizes)
    found = vectors(encoder)
    raw, unit = vectors(encoder, normalize=False), vectors(encoder, normalize=True)
    np.testing.assert_array_equal(found, unit if normalizes else raw)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(unit, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)


def test_fewer_dimensions_are_the_first_ones_normalized_again(make: Make) -> None:
    encoder = make(normalizes=True)
    raw = vectors(encoder, normalize=False)[:, :8]
    np.testing.assert_array_equal(vectors(encoder, dimensions=8, normalize=False), raw)
    cut = vectors(encoder, dimensions=8)
    np.testing.assert_allclose(cut, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)


def test_more_dimensions_than_there_are_are_refused(make: Make) -> None:
    assert "at most 32" in refused("dimensions", make(), dimensions=33)


def test_files_may_ask_for_fewer_dimensions(models: dict[str, Any], tmp_path: Path) -> None:
    encoder = with_prompts(models, tmp_path, truncate_dim=8)
    assert encoder.dimensions == 8 and vectors(encoder).shape == (4, 8)
    assert vectors(encoder, dimensions=32).shape == (4, 32)


def test_float16_is_what_float32_rounds_to(make: Make) -> None:
    encoder = make()
    half = vectors(encoder, dtype="float16")
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, vectors(encoder).astype(np.float16))


def test_vectors_beyond_float16_are_refused(make: Make) -> None:
    encoder, request = make(), EmbedRequest(inputs=["a"], dtype="float16")
    with pytest.raises(InvalidArgument) as caught:
        encoder.finish(np.full((1, 32), 70_000, np.float32), request)
    assert caught.value.details == {"field": "dtype"}


def test_vector_of_zeros_stays_one(make: Make) -> None:
    request = EmbedRequest(inputs=["a"], normalize=True)
    assert make().finish(np.zeros((1, 32), np.float32), request).tolist() == [[0.0] * 32]


def test_prompt_stands_before_each_text(models: dict[str, Any], tmp_path: Path) -> None:
    encoder = with_prompts(models, tmp_path)
    expected = vectors(encoder, ["query : cat", "query : dog"])
    np.testing.assert_allclose(vectors(encoder, ["cat", "dog"], prompt_name="query"), expected, atol=1e-5)
    np.testing.assert_allclose(vectors(encoder, ["cat", "dog"], prompt="query : "), expected, atol=1e-5)
    plain = vectors(encoder, ["cat"])
    np.testing.assert_allclose(vectors(encoder, ["cat"], prompt_name="document"), plain, atol=1e-5)
    assert not np.allclose(plain, expected[:1], atol=0.01)


def test_files_may_have_a_default_prompt(models: dict[str, Any], tmp_path: Path) -> None:
    encoder = with_prompts(models, tmp_path, default_prompt_name="query")
    assert encoder.encode(EmbedRequest(inputs=["cat"])).num_tokens == [5]
    assert encoder.encode(EmbedRequest(inputs=["cat"], prompt="")).num_tokens == [3]
    # Token ids are as they are, and nobody asked for a prompt.
    assert encoder.encode(EmbedRequest(inputs=[[1, 4, 2]])).num_tokens == [3]


def test_unknown_prompt_is_refused_with_those_there_are(models: dict[str, Any], tmp_path: Path) -> None:
    encoder = with_prompts(models, tmp_path)
    assert "document, query" in refused("prompt_name", encoder, prompt_name="passage")


def test_prompt_before_token_ids_is_refused(models: dict[str, Any], tmp_path: Path) -> None:
    encoder = with_prompts(models, tmp_path)
    refused("prompt_name", encoder, [[1, 2]], prompt_name="query")
    refused("prompt", encoder, ["a", [1, 2]], prompt="query")


def test_wrong_token_id_is_refused(make: Make) -> None:
    assert "end at 63" in refused("inputs[1]", make(), ["cat", [1, 64]])
    assert "no tokens" in refused("inputs[0]", make(), [[]])


def test_input_over_the_limit_is_refused_or_cut(make: Make) -> None:
    encoder = make()
    long = "cat " * 60
    with pytest.raises(ContextTooLong, match=r"inputs\[1\] has 62 tokens, but mine takes 48"):
        vectors(encoder, ["cat", long])
    answer = encoder.encode(EmbedRequest(inputs=["cat", long, [5] * 60], truncate=True))
    assert answer.num_tokens == [3, 48, 48]


def test_limit_is_the_least_of_files_and_positions(models: dict[str, Any], tmp_path: Path) -> None:
    save_model(tmp_path, models["xlm-roberta"])
    assert load_encoder(tmp_path, "mine").max_tokens == 48  # of 50 positions, two are padding's
    save_json(tmp_path / "sentence_bert_config.json", {"max_seq_length": 12})
    assert load_encoder(tmp_path, "mine").max_tokens == 12


def test_numbers_that_are_none_never_leave(models: dict[str, Any], tmp_path: Path) -> None:
    folder = save_model(tmp_path, models["bert"])
    weights = {name: seeded(name, shape) for name, shape in models["bert"]["shapes"].items()}
    weights["encoder.layer.3.output.LayerNorm.weight"] += np.inf
    save_weights(folder / "model.safetensors", weights)
    with pytest.raises(InternalError, match="no number"):
        vectors(load_encoder(folder, "mine"))


@pytest.mark.parametrize("name", ["bert", "modernbert", "gemma3"])
def test_half_precision_weights_never_make_nan(make: Make, name: str) -> None:
    encoder = make(name, dtype="float16")
    found = vectors(encoder, ["cat", "cat " * 40], normalize=True)
    assert np.isfinite(found).all()


def test_gemma_may_leave_the_range_of_its_weights(models: dict[str, Any], tmp_path: Path) -> None:
    weights = {name: seeded(name, shape) for name, shape in models["gemma3"]["shapes"].items()}
    weights["embed_tokens.weight"] *= 30_000
    found = []
    for dtype in ("float16", "float32"):
        folder = save_model(tmp_path / dtype, models["gemma3"])
        half = {name: leaf.astype("float16") for name, leaf in weights.items()}
        save_weights(folder / "model.safetensors", {name: leaf.astype(dtype) for name, leaf in half.items()})
        found.append(vectors(load_encoder(folder, "mine")))
    np.testing.assert_array_equal(found[0], found[1])


def test_dense_layers_come_between_pooling_and_normalizing(models: dict[str, Any], tmp_path: Path) -> None:
    folder = save_model(tmp_path, models["gemma3"], normalizes=True)
    raw = vectors(load_encoder(folder, "mine"), normalize=False)
    up, down, bias = seeded("up", (48, 32)), seeded("down", (16, 48)), seeded("bias", (16,))
    linear, tanh = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Tanh"
    layers = [
        ("2_Dense", {"linear.weight": up}, linear),
        ("3_Dense", {"linear.weight": down, "linear.bias": bias}, tanh),
    ]
    modules = json.loads((folder / "modules.json").read_text())
    for place, (name, weights, activation) in enumerate(layers):
        rows, columns = weights["linear.weight"].shape
        config = {"in_features": columns, "out_features": rows, "bias": "linear.bias" in weights}
        save_json(folder / name / "config.json", {**config, "activation_function": activation})
        save_weights(folder / name / "model.safetensors", weights)
        modules.insert(2 + place, {"path": name, "type": "sentence_transformers.models.Dense"})
    save_json(folder / "modules.json", modules)
    encoder = load_encoder(folder, "mine")
    expected = np.tanh(raw @ up.T @ down.T + bias)
    assert encoder.dimensions == 16
    np.testing.assert_allclose(vectors(encoder, normalize=False), expected, atol=1e-4)
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors(encoder), unit, atol=1e-4)
