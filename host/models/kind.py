"""What a model is for, told from its files before they are loaded; imports nothing heavy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

Kind = Literal["generate", "embed", "rerank"]

# Models of these types generate no text. Decoders that embed say so with ``modules.json``.
_ENCODERS = {"bert", "camembert", "modernbert", "roberta", "xlm-roberta"}


def kind_of(folder: Path) -> Kind:
    """What a model's folder holds: something that generates, an embedding model, or a reranker.

    A file that cannot be read says nothing here; whoever loads the model tells what is wrong with it.
    """
    config = _read(folder / "config.json")
    config = config if isinstance(config, dict) else {}
    architectures = config.get("architectures")
    if isinstance(architectures, list) and any(
        str(name).endswith("ForSequenceClassification") for name in architectures
    ):
        return "rerank"
    modules = _read(folder / "modules.json")
    if isinstance(modules, list) or config.get("model_type") in _ENCODERS:
        return "embed"
    return "generate"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
