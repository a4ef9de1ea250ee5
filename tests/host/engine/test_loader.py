from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.engine.loader import LoadedModel, load
from mlxbridge.host.engine.model_config import context_length


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def failure(folder: Path) -> str:
    with pytest.raises(ModelLoadFailed) as caught:
        load(folder, "mine")
    assert "mine" in caught.value.message
    return caught.value.message


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_loaded_model_knows_its_limits(loaded: LoadedModel) -> None:
    assert (loaded.name, loaded.context_length, loaded.vocabulary_size) == ("tiny", 512, 384)
    assert loaded.eos_ids == {loaded.tokenizer.eos_token_id}


def test_chat_template_that_is_none_is_no_news_to_guests_first(copy: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="cannot load mine: its chat_template .* line 2: "):
        load(copy, "mine", chat_template="{{ messages }}\n{% for %}")
    source = "{% generation %}{% for m in messages %}{% break %}{% endfor %}{% endgeneration %}"
    assert load(copy, "mine", chat_template=source).tokenizer.chat_template == source


def test_prompt_over_the_limit_is_no_news_from_transformers(
    copy: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load(copy, "mine").tokenizer
    monkeypatch.setattr(tokenizer._tokenizer, "model_max_length", 3)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    assert len(tokenizer.encode("many more tokens than three")) > 3
    assert not caplog.records


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_load_without_a_file_names_it(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert name.split(".")[0] in failure(copy)


def test_load_unsupported_architecture_says_so(copy: Path) -> None:
    edit_config(copy, model_type="nosuch")
    message = failure(copy)
    assert "nosuch not supported" in message and "mlx-lm" in message


def test_load_never_runs_the_folders_code(copy: Path) -> None:
    (copy / "evil.py").write_text("raise SystemExit('ran')")
    edit_config(copy, model_file="evil.py")
    assert "never runs" in failure(copy)


def test_load_weights_of_another_shape_says_so(copy: Path) -> None:
    edit_config(copy, num_hidden_layers=3)
    message = failure(copy)
    assert "do not fit its config.json (Missing " in message
    assert message.count("model.layers.2.") == 3 and ", …). Download it again" in message


def test_load_damaged_weights_says_so(copy: Path) -> None:
    path = copy / "model.safetensors"
    whole = path.read_bytes()
    for num_bytes in (4, 1000, len(whole) - 6):
        path.write_bytes(whole[:num_bytes])
        assert "model.safetensors is damaged or cut off (" in failure(copy)


def test_load_damaged_config_says_so(copy: Path) -> None:
    (copy / "config.json").write_text("{")
    assert "JSONDecodeError" in failure(copy)


def test_loaded_weights_are_in_memory(copy: Path) -> None:
    model = load(copy, "mine")
    shutil.rmtree(copy)
    assert model.model(mx.array([[1]])).shape == (1, 1, 384)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, None),
        ({"max_position_embeddings": 4096}, 4096),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 8192}, "max_position_embeddings": 77}, 8192),
        ({"text_config": None, "max_seq_len": 5}, 5),
        (
            {
                "max_position_embeddings": 32768,
                "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
        ),
        ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
    ],
)
def test_context_length_of_configs(config: dict[str, Any], expected: int | None) -> None:
    assert context_length(config) == expected
