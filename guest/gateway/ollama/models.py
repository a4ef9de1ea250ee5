"""A host's models as Ollama tells of them, and its names for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.model_names import find_model, names_to_ask
from mlxbridge.types import ModelInfo

LATEST = ":latest"
_HUBS = ("hf.co/", "huggingface.co/", "https://huggingface.co/")
_NEVER = "0001-01-01T00:00:00Z"  # as Go writes a time that is not known
_FOR_EVER = "9999-12-31T23:59:59Z"
_LOADED = ("ready", "draining")
_DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
_CAPABILITIES = {"generate": "completion", "embed": "embedding", "reasoning": "thinking"}
_UNTOLD = frozenset({"chat"})  # Ollama's completions are chats, too


class Found(NamedTuple):
    """A model, and the name under which the host is asked for it, which may have an adapter."""

    name: str
    info: ModelInfo


def find(models: Sequence[ModelInfo], name: str) -> Found:
    """The model of a name, which may be an alias or have an adapter.

    ``:latest``, which clients add by themselves, is left out if the host has nothing of the whole name.

    Raises:
        Problem: 404.
    """
    for wanted in dict.fromkeys((name, name.removesuffix(LATEST))):
        if (info := find_model(models, wanted)) is not None:
            return Found(wanted, info)
    raise Problem(404, f"model {name!r} not found; /api/tags tells which there are", code="model_not_found")


def tagged(name: str) -> str:
    """A name as Ollama lists it, where each has a tag: clients look those up that they have added one to."""
    return name if ":" in name.rpartition("/")[2] else name + LATEST


def hub_name(name: str) -> str:
    """The name that the hub has for a model, of one that Ollama would know it by."""
    for hub in _HUBS:
        name = name.removeprefix(hub)
    return name.removesuffix(LATEST)


def fingerprint(name: str) -> str:
    """What stands for a digest: 64 hexadecimal digits that only this name has; the host tells no digest of files."""
    return sha256(name.encode()).hexdigest()


def tags(info: ModelInfo) -> list[dict[str, Any]]:
    """The entries of ``/api/tags``: one for each of a model's names."""
    entry = {**_entry(info, _bytes(info)), "modified_at": _NEVER}
    return [{**entry, "name": tagged(name), "model": tagged(name)} for name in names_to_ask(info)]


def process(info: ModelInfo, at: datetime) -> dict[str, Any] | None:
    """An entry of ``/api/ps``; None of a model that is not loaded.

    Args:
        info: of the model, with its counters.
        at: the time.
    """
    if info.state not in _LOADED:
        return None
    details = info.details
    used = details.get("used_bytes") or details.get("reserved_bytes") or _bytes(info)
    return {
        **_entry(info, used),
        "size_vram": used,
        "expires_at": _expiry(info, at),
        "context_length": context_length(info) or 0,
    }


def show(info: ModelInfo) -> dict[str, Any]:
    """What ``/api/show`` tells, of a model with what its files say."""
    details = info.details
    family = details.get("model_type") or ""
    facts = {
        "general.architecture": family,
        "general.parameter_count": details.get("parameters"),
        f"{family}.context_length": details.get("context_length"),
        f"{family}.embedding_length": details.get("dimensions"),
        f"{family}.block_count": details.get("layers"),
        f"{family}.vocab_size": details.get("vocabulary_size"),
    }
    return {
        "modelfile": f"FROM {info.name}\n",
        "parameters": "",
        "template": "",
        "license": details.get("licence") or "",
        "modified_at": _NEVER,
        "details": _details(info),
        "model_info": {name: value for name, value in facts.items() if value is not None},
        "capabilities": [
            _CAPABILITIES.get(one, one) for one in details.get("capabilities", ()) if one not in _UNTOLD
        ],
    }


def context_length(info: ModelInfo) -> int | None:
    """Tokens that there is room for, of one input if the model makes vectors; None if there is no limit, or it is not known."""
    details = info.details
    limits = (details.get(name) for name in ("most_tokens", "context_length", "max_tokens"))
    return next((limit for limit in limits if isinstance(limit, int)), None)


def _entry(info: ModelInfo, size: int) -> dict[str, Any]:
    return {
        "name": tagged(info.name),
        "model": tagged(info.name),
        "size": size,
        "digest": fingerprint(info.name),
        "details": _details(info),
    }


def _details(info: ModelInfo) -> dict[str, Any]:
    family = info.details.get("model_type")
    return {
        "parent_model": "",
        "format": "mlx",
        "family": family or "",
        "families": [family] if family else [],
        "parameter_size": _short(info.details.get("parameters")),
        "quantization_level": _quantization(info),
    }


def _quantization(info: ModelInfo) -> str:
    quantization = info.details.get("quantization")
    if isinstance(quantization, dict) and "bits" in quantization:
        return f"Q{quantization['bits']}"
    dtype = info.details.get("dtype")
    return _DTYPES.get(dtype, "") if isinstance(dtype, str) else ""


def _short(count: Any) -> str:
    """A number of parameters as people write it."""
    if not isinstance(count, int):
        return ""
    for unit, size in (("B", 1_000_000_000), ("M", 1_000_000), ("K", 1000)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def _bytes(info: ModelInfo) -> int:
    return int(
        info.details.get("disk_bytes")
        or info.details.get("bytes")
        or info.details.get("estimated_bytes")
        or 0
    )


def _expiry(info: ModelInfo, at: datetime) -> str:
    """When the model goes if nobody asks it any more."""
    details = info.details
    left = details.get("expires_in_s", details.get("keep_alive_s"))
    if details.get("pinned") or left is None:
        return _FOR_EVER
    try:
        expiry = (at + timedelta(seconds=left)).astimezone(UTC)
    except OverflowError:
        return _FOR_EVER
    return expiry.isoformat().replace("+00:00", "Z")
