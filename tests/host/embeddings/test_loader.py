from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.embeddings.encoder import Encoder
from mlxbridge.host.embeddings.loader import load_encoder
from mlxbridge.host.embeddings.request import EmbedRequest
from tests.host.embeddings.checkpoints import save_json, save_model, save_weights, seeded

LINEAR = "torch.nn.modules.linear.Identity"


def failure(folder: Path, **options: Any) -> str:
    with pytest.raises(ModelLoadFailed) as caught:
        load_encoder(folder, "mine", **options)
    assert caught.value.message.startswith(f"cannot load mine from {folder}: ")
    return caught.value.message


def weights_of(reference: dict[str, Any]) -> dict[str, Any]:
    return {name: seeded(name, shape) for name, shape in reference["shapes"].items()}


@pytest.fixture
def folder(models: dict[str, Any], tmp_path: Path) -> Path:
    return save_model(tmp_path / "model", models["bert"])


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert name.split(".")[0] in failure(folder)


def test_tokenizer_of_another_kind_is_not_enough(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    assert "lacks tokenizer.json" in failure(folder)


def test_damaged_weights_are_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for num_bytes in (1000, len(whole) - 6):
        path.write_bytes(whole[:num_bytes])
        assert "model.safetensors is damaged or cut off. Download it again." in failure(folder)


def test_unknown_architecture_is_named(models: dict[str, Any], tmp_path: Path) -> None:
    folder = save_model(tmp_path, models["bert"], model_type="mpnet")
    assert "'mpnet' is none of bert, " in failure(folder)


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size"])
def test_config_that_lacks_something_is_told(models: dict[str, Any], tmp_path: Path, key: str) -> None:
    folder = save_model(tmp_path, models["bert"])
    config = json.loads((folder / "config.json").read_text())
    del config[key]
    save_json(folder / "config.json", config)
    assert key in failure(folder)


def test_config_that_makes_no_sense_is_told(models: dict[str, Any], tmp_path: Path) -> None:
    failure(save_model(tmp_path / "a", models["bert"], num_attention_heads=0))
    failure(save_model(tmp_path / "b", models["bert"], hidden_act=3))


@pytest.mark.parametrize("change", ["missing", "unknown", "other shape"])
def test_weights_that_do_not_fit_are_told(folder: Path, models: dict[str, Any], change: str) -> None:
    weights, name = weights_of(models["bert"]), "encoder.layer.1.output.dense.weight"
    if change == "unknown":
        weights["encoder.layer.1.adapter.weight"] = weights[name]
    elif change == "missing":
        del weights[name]
    else:
        weights[name] = weights[name][:5]
    save_weights(folder / "model.safetensors", weights)
    message = failure(folder)
    assert "do not fit its config.json" in message
    assert ("adapter" if change == "unknown" else name) in message


def test_nothing_is_guessed_about_pooling(models: dict[str, Any], tmp_path: Path) -> None:
    folder = save_model(tmp_path, models["bert"], pooling=None)
    assert "modules.json" in failure(folder)
    assert "known are mean" in failure(folder, pooling="max")
    assert load_encoder(folder, "mine", pooling="cls").dimensions == 32


def test_pooling_cannot_go_against_the_files(folder: Path) -> None:
    assert "says 'mean'" in failure(folder, pooling="cls")
    load_encoder(folder, "mine", pooling="mean")


def test_weights_may_be_in_several_files(folder: Path, models: dict[str, Any]) -> None:
    expected = load_encoder(folder, "mine").encode(EmbedRequest(inputs=["cat"])).vectors
    weights = weights_of(models["bert"])
    (folder / "model.safetensors").unlink()
    for index in range(2):
        part = dict(list(weights.items())[index::2])
        save_weights(folder / f"model-0000{index + 1}-of-00002.safetensors", part)
    found = load_encoder(folder, "mine").encode(EmbedRequest(inputs=["cat"])).vectors
    np.testing.assert_array_equal(found, expected)


def test_names_from_tensorflow_are_known(folder: Path, models: dict[str, Any]) -> None:
    expected = load_encoder(folder, "mine").encode(EmbedRequest(inputs=["cat"])).vectors
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = {}
    for name, leaf in weights_of(models["bert"]).items():
        end = next((end for end in old if name.endswith(end)), "")
        weights[name.removesuffix(end) + old.get(end, "")] = leaf
    assert any(name.endswith("gamma") for name in weights)
    save_weights(folder / "model.safetensors", weights)
    found = load_encoder(folder, "mine").encode(EmbedRequest(inputs=["cat"])).vectors
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "finer"),
    [
        ("bert", "encoder.layer.0.attention.self.query"),
        ("modernbert", "layers.0.attn.Wqkv"),
        ("qwen3", "model.layers.0.self_attn.q_proj"),
    ],
)
def test_quantized_weights_are_loaded_as_such(
    models: dict[str, Any], tmp_path: Path, name: str, finer: str
) -> None:
    """As mlx_lm's convert writes them: most matrices in 4 bits, and one of them in 8."""
    settings = {"group_size": 32, "bits": 4, finer: {"group_size": 32, "bits": 8}}
    folder = save_model(tmp_path, models[name], quantization=settings)
    quantized: dict[str, mx.array] = {}
    rounded: dict[str, Any] = {}
    for key, leaf in weights_of(models[name]).items():
        path = key.removesuffix(".weight")
        if leaf.ndim == 1 or leaf.shape[1] % 32 or "pooler" in key:
            quantized[key], rounded[key] = mx.array(leaf), leaf
            continue
        bits = 8 if finer.endswith(path) else 4
        weight, scales, biases = mx.quantize(mx.array(leaf), 32, bits)
        quantized |= {key: weight, f"{path}.scales": scales, f"{path}.biases": biases}
        rounded[key] = np.array(mx.dequantize(weight, scales, biases, 32, bits))
    mx.save_safetensors(str(folder / "model.safetensors"), quantized)
    request = EmbedRequest(inputs=["cat", "the dog sat on the mat"])
    found = load_encoder(folder, "mine").encode(request).vectors
    other = save_model(tmp_path / "rounded", models[name])
    save_weights(other / "model.safetensors", rounded)
    np.testing.assert_allclose(found, load_encoder(other, "mine").encode(request).vectors, atol=2e-3)


def dense(folder: Path, config: dict[str, Any], weights: dict[str, Any] | None) -> Path:
    save_json(folder / "2_Dense" / "config.json", config)
    if weights is not None:
        save_weights(folder / "2_Dense" / "model.safetensors", weights)
    modules = json.loads((folder / "modules.json").read_text())
    save_json(folder / "modules.json", [*modules, {"path": "2_Dense", "type": "x.Dense"}])
    return folder


@pytest.mark.parametrize(
    ("changes", "has_weights", "reason"),
    [
        ({}, False, "2_Dense lacks model.safetensors"),
        ({"in_features": 16}, True, "takes 16 numbers, but gets 32"),
        ({"activation_function": "torch.nn.modules.activation.Softmax"}, True, "Softmax"),
        ({"module_input_name": "token_embeddings"}, True, "token_embeddings"),
        ({"bias": True}, True, "do not fit"),
    ],
)
def test_dense_layer_that_cannot_be_honoured_is_refused(
    folder: Path, changes: dict[str, Any], has_weights: bool, reason: str
) -> None:
    config = {"in_features": 32, "out_features": 8, "bias": False, "activation_function": LINEAR, **changes}
    weights = {"linear.weight": seeded("a", (8, config["in_features"]))}
    assert reason in failure(dense(folder, config, weights if has_weights else None))


def test_weights_are_in_memory(make: Callable[..., Encoder], tmp_path: Path) -> None:
    encoder = make()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    assert encoder.encode(EmbedRequest(inputs=["cat"])).vectors.shape == (1, 32)
