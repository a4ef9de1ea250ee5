"""What the worker process does with the params of ``load`` before it loads anything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import ModelSource
from mlxbridge.host.worker.__main__ import load_model

UNUSED: dict[str, Any] = {
    "draft": ModelSource(name="small", kind="folder", folder=Path("/small")),
    "adapters": {"sql": "/sql"},
    "max_context": 100,
    "chat_template": "{{ messages }}",
    "sampling": {"temperature": 0.5},
    "own_limits": ("kv_bits", "prefix_cache"),
}
KEYS = {"draft": "draft_model", "own_limits": "kv_bits, prefix_cache"}


@pytest.mark.parametrize("name", UNUSED)
def test_what_a_model_of_vectors_has_no_use_for_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    settings = ModelSettings(name="minilm", source=ModelSource(name="minilm", kind="folder", folder=tmp_path))
    settings = replace(settings, **{name: UNUSED[name]})
    with pytest.raises(
        ModelLoadFailed, match=f"minilm generates no text, and so has no use for {KEYS.get(name, name)}( |$)"
    ):
        load_model(settings.load_params(list(settings.sources), None), lambda _: None)
