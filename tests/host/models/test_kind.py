from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.host.models.kind import kind_of
from mlxbridge.host.models.store import classify

MODULES = [{"type": "sentence_transformers.models.Transformer", "path": ""}]


@pytest.mark.parametrize(
    ("config", "modules", "kind"),
    [
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, None, "generate"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, MODULES, "embed"),
        ({"model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"]}, None, "embed"),
        ({"model_type": "modernbert"}, None, "embed"),
        ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}, MODULES, "embed"),
        ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}, None, "generate"),
        ({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, None, "rerank"),
        ({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, MODULES, "rerank"),
        ({"model_type": 3, "architectures": "odd"}, {"no": "list"}, "generate"),
        ([], None, "generate"),
        (None, None, "generate"),
    ],
)
def test_kind_is_told_from_the_files(tmp_path: Path, config: Any, modules: Any, kind: str) -> None:
    for name, content in (("config.json", config), ("modules.json", modules)):
        if content is not None:
            (tmp_path / name).write_text(json.dumps(content))
    assert kind_of(tmp_path) == kind


def test_damaged_files_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "modules.json").write_bytes(b"\xff")
    assert kind_of(tmp_path) == "generate"


def test_demo_generates() -> None:
    folder = classify("demo").folder
    assert folder is not None and kind_of(folder) == "generate"
