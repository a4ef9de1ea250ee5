"""What is known of a model, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_UNITS = ("B", "KB", "MB", "GB", "TB")
_WIDTH = 16


def describe_facts(facts: Mapping[str, Any]) -> Iterator[str]:
    """A line for each fact that is there: name, state, architecture, parameters, quantization and so on.

    Args:
        facts: as ``show`` has them (SPEC.md §10).
    """
    for label, value in _facts(facts):
        if value:
            yield f"{label:<{_WIDTH}}{value}"


def summarize_facts(facts: Mapping[str, Any]) -> str:
    """The same in a few words, for a list of models: why it failed, or what it is for, its size, source, aliases and adapters."""
    if facts["state"] == "failed":
        return str(facts.get("error", ""))
    told = [str(facts["kind"])] if facts.get("kind") else []
    if isinstance(parameters := facts.get("parameters"), int):
        told.append(f"{describe_count(parameters)} parameters")
    if context := facts.get("context_length"):
        told.append(f"context {context}")
    told.append(str(facts["source"]))
    for label in ("aliases", "adapters"):
        if names := facts.get(label):
            told.append(f"{label}: {' '.join(names)}")
    return ", ".join(told)


def describe_size(num_bytes: int) -> str:
    """Such as ``3.7 MB``; units are powers of 1024."""
    size, unit = float(num_bytes), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def describe_count(count: int) -> str:
    """Such as ``1.8M`` or ``7.6B``."""
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.1f}M"


def _facts(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("name", "state", "source", "hub_id"):
        yield name.replace("_", " "), str(facts.get(name, ""))
    yield "aliases", ", ".join(facts.get("aliases", ()))
    yield "architecture", str(facts.get("architecture") or "")
    if isinstance(parameters := facts.get("parameters"), int):
        yield "parameters", describe_count(parameters)
    yield "weights", _weights(facts)
    if context := facts.get("context_length"):
        yield "context", f"{context} tokens"
    if disk_bytes := facts.get("disk_bytes"):
        yield "size on disk", describe_size(disk_bytes)
    yield "capabilities", ", ".join(facts.get("capabilities", ()))
    yield "licence", str(facts.get("licence") or "")
    yield "draft model", str(facts.get("draft_model") or "")
    yield "adapters", ", ".join(facts.get("adapters", ()))
    yield "error", str(facts.get("error") or "")


def _weights(facts: Mapping[str, Any]) -> str:
    quantization = facts.get("quantization")
    if isinstance(quantization, Mapping) and "bits" in quantization:
        return f"{quantization['bits']} bits in groups of {quantization.get('group_size', '?')}"
    return str(facts.get("dtype") or "")
