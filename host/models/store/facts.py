"""What can be said of a model from its files, without loading it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.embeddings.limits import LIMITS, first_position, stated_limit
from mlxbridge.host.engine.model_config import context_length, quantization
from mlxbridge.host.models.kind import kind_of
from mlxbridge.host.models.store.headers import count_parameters, main_dtype, read_tensors

_MOST_CARD_BYTES = 1 << 20
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)^---", re.DOTALL | re.MULTILINE)
_LICENCE = re.compile(r"^(license|license_name):[ \t]*[\"']?([^\s\"'#][^\"'#\r\n]*)", re.MULTILINE)
_DEFAULT = "default"  # transformers' name for the template that is used where none is named
_REASONING = ("<think>", "enable_thinking", "reasoning_content", "<|channel|>")


def read_facts(folder: Path) -> dict[str, Any]:
    """Facts about a model, in plain values that msgpack can carry.

    Returns:
        architecture, model_type, parameters (a quantized weight counts as the weight it stands for), dtype (of the
        unquantized ones, or None), quantization (bits and group_size, or None), context_length (tokens of prompt and answer, or of
        an input of a model of vectors; or None), bytes (of
        the weights), disk_bytes (of all files), capabilities (see ``_capabilities``), chat_template (its text, or None), licence (or
        None).

    Raises:
        ModelLoadFailed: a file is damaged or cannot be read.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError) as error:
        raise ModelLoadFailed(f"{folder / 'config.json'}: {error}") from error
    tensors = read_tensors(folder)
    templates = _chat_templates(folder)
    return {
        "architecture": (config.get("architectures") or [config.get("model_type")])[0],
        "model_type": config.get("model_type"),
        "parameters": count_parameters(tensors, config),
        "dtype": main_dtype(tensors),
        "quantization": quantization(config),
        "context_length": _context_length(folder, config),
        "bytes": sum(tensor.num_bytes for tensor in tensors.values()),
        "disk_bytes": disk_bytes(folder),
        "capabilities": _capabilities(folder, "\n".join(templates.values())),
        "chat_template": templates.get(_DEFAULT),
        "licence": _licence(folder),
    }


def _context_length(folder: Path, config: dict[str, Any]) -> int | None:
    positions = context_length(config)
    if kind_of(folder) == "generate":
        return positions
    limits: dict[str, Any] = {}
    for path in sorted(folder.glob(LIMITS)):
        limits = _read_map(path)
    stated = stated_limit(limits, _read_map(folder / "tokenizer_config.json"))
    if positions is not None and "pad_token_id" in config:
        positions -= first_position(config)
    return min((limit for limit in (positions, stated) if limit is not None), default=None)


def _read_map(path: Path) -> dict[str, Any]:
    """A JSON file that may be missing; whoever loads the model says what is wrong with it."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def disk_bytes(folder: Path) -> int:
    """What the files of a folder take, those that links in it lead to among them."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _capabilities(folder: Path, template: str) -> list[str]:
    """What the model can do: ``generate``, ``embed`` or ``rerank``; and as far as its chat template tells ``chat``,
    ``tools`` (it is told of tools) and ``reasoning`` (it knows of thinking).
    """
    kind = kind_of(folder)
    if kind != "generate":
        return [kind]
    return [
        kind,
        *["chat"] * bool(template),
        *["tools"] * ("tools" in template),
        *["reasoning"] * any(mark in template for mark in _REASONING),
    ]


def _chat_templates(folder: Path) -> dict[str, str]:
    """The texts of the model's chat templates by name; none if it has none, or none that can be read."""
    try:
        return {_DEFAULT: (folder / "chat_template.jinja").read_text("utf-8")}
    except (OSError, UnicodeDecodeError):
        pass
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = _read_map(folder / name).get("chat_template")
        if isinstance(template, str):
            return {_DEFAULT: template}
        if isinstance(template, list):
            named = [each for each in template if isinstance(each, dict)]
            return {str(each.get("name", _DEFAULT)): str(each.get("template", "")) for each in named}
    return {}


def _licence(folder: Path) -> str | None:
    """What the model's card has in its front matter."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            front = _FRONT_MATTER.match(file.read(_MOST_CARD_BYTES))
    except OSError:
        return None
    found = dict(_LICENCE.findall(front[1])) if front else {}
    licence = found.get("license_name") or found.get("license")
    return licence.strip() if licence else None
