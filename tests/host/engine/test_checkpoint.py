from __future__ import annotations

from pathlib import Path

from mlxbridge.host.engine.checkpoint import missing_parts
from mlxbridge.host.engine.loader import load
from tests.host.engine.tiny import byte_level_tokenizer, save_model, save_tokenizer


def test_nothing_is_missing_from_a_model(model_folder: Path) -> None:
    assert missing_parts(model_folder) == []


def test_everything_is_missing_from_nowhere(tmp_path: Path) -> None:
    assert [part.split()[0] for part in missing_parts(tmp_path / "no")] == ["config.json", "a", "weights"]


def test_missing_shard_is_named(tmp_path: Path) -> None:
    save_model(tmp_path, shards=3)
    save_tokenizer(byte_level_tokenizer(), tmp_path)
    assert missing_parts(tmp_path) == []
    load(tmp_path, "sharded")
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    assert missing_parts(tmp_path) == ["model-00002-of-00003.safetensors"]


def test_pointer_instead_of_weights_is_named(tmp_path: Path) -> None:
    save_model(tmp_path)
    save_tokenizer(byte_level_tokenizer(), tmp_path)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    [part] = missing_parts(tmp_path)
    assert "model.safetensors" in part and "git lfs pull" in part


def test_index_that_cannot_be_read_is_ignored(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    for text in ("{", "[]", '{"weight_map": 3}', "{}"):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        assert missing_parts(tmp_path) == []
