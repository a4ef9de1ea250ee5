from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.embeddings.folder import ModelFiles, read_files
from mlxbridge.host.embeddings.tokenizer import TokenizerSettings
from tests.host.embeddings.checkpoints import STEPS, save_json

BASE = "sentence_transformers.base.modules."
TRANSFORMER, POOLING = (f"{STEPS}Transformer", ""), (f"{STEPS}Pooling", "1_Pooling")
DENSE, NORMALIZE = (f"{STEPS}Dense", "2_Dense"), (f"{STEPS}Normalize", "3_Normalize")
MEAN = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


def read(
    folder: Path, *steps: tuple[str, str], pooling: dict[str, Any] | None = None, **files: Any
) -> ModelFiles:
    save_json(folder / "config.json", files.pop("config", {"model_type": "bert"}))
    save_json(folder / "1_Pooling" / "config.json", pooling or MEAN)
    if steps:
        modules = [{"idx": index, "type": kind, "path": path} for index, (kind, path) in enumerate(steps)]
        save_json(folder / "modules.json", modules)
    for name, content in files.items():
        save_json(folder / f"{name}.json", content)
    return read_files(folder)


def test_steps_are_read(tmp_path: Path) -> None:
    files = read(tmp_path, TRANSFORMER, POOLING, DENSE, (DENSE[0], "4_Dense"), NORMALIZE)
    assert (files.folder, files.pooling, files.normalizes) == (tmp_path, "mean", True)
    assert files.projections == (tmp_path / "2_Dense", tmp_path / "4_Dense")


def test_steps_of_version_6_are_read(tmp_path: Path) -> None:
    files = read(
        tmp_path,
        (f"{BASE}transformer.Transformer", ""),
        ("sentence_transformers.sentence_transformer.modules.pooling.Pooling", "1_Pooling"),
        (f"{BASE}normalize.Normalize", "2_Normalize"),
        pooling={"embedding_dimension": 32, "pooling_mode": "lasttoken", "include_prompt": True},
    )
    assert (files.pooling, files.normalizes) == ("lasttoken", True)


def test_plain_folder_says_nothing(tmp_path: Path) -> None:
    files = read(tmp_path)
    assert (files.pooling, files.normalizes, files.projections, files.prompts) == (None, False, (), {})
    assert (files.max_tokens, files.default_prompt_name, files.dimensions, files.activation) == (None,) * 4


def test_model_may_lie_in_a_folder_of_its_own(tmp_path: Path) -> None:
    save_json(tmp_path / "0_Transformer" / "config.json", {"model_type": "roberta"})
    files = read(tmp_path, (f"{STEPS}Transformer", "0_Transformer"), POOLING)
    assert files.folder == tmp_path / "0_Transformer" and files.config == {"model_type": "roberta"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sentence_bert_config": {"max_seq_length": 256}}, 256),
        ({"sentence_roberta_config": {"max_seq_length": 128}}, 128),
        ({"tokenizer_config": {"model_max_length": 512}}, 512),
        ({"sentence_bert_config": {"max_seq_length": None}, "tokenizer_config": {"model_max_length": 9}}, 9),
        ({"sentence_bert_config": {"max_seq_length": 64}, "tokenizer_config": {"model_max_length": 9}}, 64),
        ({"tokenizer_config": {"model_max_length": 1e30}}, int(1e30)),
    ],
)
def test_limit_is_read(tmp_path: Path, files: dict[str, Any], expected: int) -> None:
    assert read(tmp_path, **files).max_tokens == expected


def test_prompts_are_read(tmp_path: Path) -> None:
    settings = {"prompts": {"query": "q: ", "document": "", "x": None}, "default_prompt_name": "query"}
    files = read(tmp_path, config_sentence_transformers={**settings, "truncate_dim": 8})
    assert files.prompts == {"query": "q: ", "document": ""}
    assert (files.default_prompt_name, files.dimensions) == ("query", 8)


@pytest.mark.parametrize(
    "files",
    [
        {"config": {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}},
        {"config": {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}},
        {"config_sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
    ],
)
def test_activation_is_read(tmp_path: Path, files: dict[str, Any]) -> None:
    assert read(tmp_path, **files).activation == "torch.nn.modules.linear.Identity"


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([TRANSFORMER], None),
        ([TRANSFORMER, POOLING, (f"{STEPS}Dropout", "2_Dropout")], None),
        ([TRANSFORMER, POOLING, ("my.Router", "2_Router")], r"my\.Router"),
        ([TRANSFORMER, POOLING, NORMALIZE, DENSE], "Dense behind Normalize"),
        ([TRANSFORMER, DENSE, POOLING], "in this order"),
        ([TRANSFORMER, NORMALIZE], "in this order"),
        ([TRANSFORMER, POOLING, POOLING], "in this order"),
        ([TRANSFORMER, POOLING, (DENSE[0], "../2_Dense")], "out of the folder"),
        ([TRANSFORMER, (f"{STEPS}Dropout", "2_Dropout")], "no Pooling"),
    ],
)
def test_steps_that_are_not_known_are_refused(
    tmp_path: Path, steps: list[tuple[str, str]], reason: str | None
) -> None:
    if reason is None:
        read(tmp_path, *steps)
        return
    with pytest.raises(ModelLoadFailed, match=reason):
        read(tmp_path, *steps)


@pytest.mark.parametrize(
    ("pooling", "reason"),
    [
        ({"pooling_mode_max_tokens": True}, "'max'"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, r"'cls\+mean'"),
        ({"pooling_mode": ["mean", "max"]}, r"'mean\+max'"),
        ({"pooling_mode_new": True}, "pooling_mode_new"),
        ({**MEAN, "include_prompt": False}, "include_prompt"),
    ],
)
def test_pooling_that_is_not_known_is_refused(tmp_path: Path, pooling: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelLoadFailed, match=reason):
        read(tmp_path, TRANSFORMER, POOLING, pooling=pooling)


@pytest.mark.parametrize("content", ["{", "[]", "3", "\udcff"])
@pytest.mark.parametrize(
    "name", ["config.json", "1_Pooling/config.json", "config_sentence_transformers.json"]
)
def test_damaged_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    read(tmp_path, TRANSFORMER, POOLING, config_sentence_transformers={})
    (tmp_path / name).write_text(content, errors="surrogateescape")
    with pytest.raises(ModelLoadFailed, match=Path(name).name):
        read_files(tmp_path)


def test_default_prompt_must_be_one_of_them(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="default_prompt_name"):
        read(tmp_path, config_sentence_transformers={"default_prompt_name": "query"})


@pytest.mark.parametrize("modules", [{}, ["a"]])
def test_modules_must_be_a_list_of_objects(tmp_path: Path, modules: Any) -> None:
    with pytest.raises(ModelLoadFailed, match="list of modules"):
        read(tmp_path, modules=modules)


def test_tokenizing_is_read(tmp_path: Path) -> None:
    assert read(tmp_path).tokenizing == TokenizerSettings()
    files = read(
        tmp_path,
        sentence_bert_config={"do_lower_case": True},
        tokenizer_config={
            "model_input_names": ["input_ids", "attention_mask"],
            "add_bos_token": True,
            "bos_token": "<bos>",
            "add_eos_token": True,
            "eos_token": {"content": "<eos>"},
        },
    )
    assert files.tokenizing == TokenizerSettings(
        lowercases=True, has_types=False, first_token="<bos>", last_token="<eos>"
    )
    config = {"add_bos_token": False, "bos_token": "<bos>", "eos_token": "<eos>"}
    assert read(tmp_path / "other", tokenizer_config=config).tokenizing == TokenizerSettings()
