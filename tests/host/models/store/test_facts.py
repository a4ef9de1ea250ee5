from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.models.store import classify
from mlxbridge.host.models.store.facts import read_facts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    demo = classify("demo").folder
    assert demo is not None
    return Path(shutil.copytree(demo, tmp_path / "copy"))


def test_facts_of_the_demo_are_those_of_the_model_that_is_loaded(folder: Path) -> None:
    # test_loader and test_facts of the engine have the same numbers from the loaded model.
    facts = read_facts(folder)
    assert (facts["architecture"], facts["model_type"]) == ("LlamaForCausalLM", "llama")
    assert (facts["parameters"], facts["bytes"], facts["dtype"]) == (1845312, 3690624, "float16")
    assert (facts["context_length"], facts["quantization"], facts["licence"]) == (1024, None, None)
    assert facts["disk_bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert facts["capabilities"] == ["generate", "chat"]
    assert "{%" in facts["chat_template"]


@pytest.mark.parametrize(
    ("config", "limits", "context"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, {"max_seq_length": 256}, 256),
        ({"model_type": "bert", "max_position_embeddings": 512}, {}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, {}, 512),
        ({"model_type": "llama", "max_position_embeddings": 512}, {"max_seq_length": 256}, 512),
    ],
)
def test_context_of_a_model_of_vectors_is_what_an_input_may_have(
    folder: Path, config: dict[str, Any], limits: dict[str, Any], context: int
) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "sentence_bert_config.json").write_text(json.dumps(limits))
    (folder / "tokenizer_config.json").unlink()
    assert read_facts(folder)["context_length"] == context


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags: [x]\n---\n# A model", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: 'llama3.2'\n---\n", "llama3.2"),
        ('---\r\nlicense: "mit"\r\n---\r\n', "mit"),
        ("---\ntags: [x]\n---\nlicense: not here", None),
        ("license: mit\n", None),
        ("", None),
    ],
)
def test_licence_is_what_the_front_matter_of_the_card_says(
    folder: Path, card: str, licence: str | None
) -> None:
    (folder / "README.md").write_text(card)
    assert read_facts(folder)["licence"] == licence


@pytest.mark.parametrize(
    ("template", "capabilities"),
    [
        ("{{ messages }}", ["chat"]),
        ("{{ messages }}{% if tools %}{{ tools }}{% endif %}", ["chat", "tools"]),
        ("{{ tools }}<think>", ["chat", "tools", "reasoning"]),
    ],
)
def test_chat_template_tells_of_tools_and_reasoning(
    folder: Path, template: str, capabilities: list[str]
) -> None:
    for name in ("chat_template.jinja", "chat_template.json"):
        (folder / name).unlink(missing_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert read_facts(folder)["capabilities"] == ["generate", *capabilities]
    settings["chat_template"] = [{"name": "default", "template": template}]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert read_facts(folder)["capabilities"] == ["generate", *capabilities]
    (folder / "chat_template.jinja").write_text("plain")
    assert read_facts(folder)["capabilities"] == ["generate", "chat"]


def test_other_kinds_of_models_are_told_apart(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config))
    assert read_facts(folder)["capabilities"] == ["rerank"]


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_damaged_config_is_named(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelLoadFailed, match=r"config\.json"):
        read_facts(folder)
