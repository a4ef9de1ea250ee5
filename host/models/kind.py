"""What a model is for, told from its files before they are loaded; imports nothing heavy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from mlxbridge.errors import BridgeError, UnknownMethod, Unsupported

Kind = Literal["generate", "embed", "rerank"]

_ASKED_WITH = {"generate": "generate", "generate_many": "generate", "embed": "embed", "rerank": "rerank"}
"""The kind of model that each method is for."""

_KINDS = {
    "generate": "a model that generates text",
    "embed": "an embedding model",
    "rerank": "a reranker",
}

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


def is_for(method: str, kind: Kind) -> bool:
    """Whether a model of this kind may be asked with a method; those that are not told apart are for all."""
    return _ASKED_WITH.get(method, kind) == kind


def refuse_method(method: str, kind: str, model: str) -> BridgeError:
    """The error for a method that a model of this kind does not have."""
    asked = _ASKED_WITH.get(method)
    if asked is None:
        return UnknownMethod(f"a worker has no method {method!r}")
    methods = " or ".join(name for name, known in _ASKED_WITH.items() if known == kind)
    return Unsupported(
        f"model: {model} is {_KINDS[kind]}, not {_KINDS[asked]}: ask it with {methods}, not with {method}",
        details={"field": "model", "kind": kind},
    )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
