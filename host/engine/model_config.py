"""What a model's ``config.json`` says, whatever it calls it; imports no mlx."""

from __future__ import annotations

from typing import Any

_CONTEXT_KEYS = (
    "max_position_embeddings",
    "max_sequence_length",
    "max_seq_len",
    "max_seq_length",
    "seq_length",
    "n_positions",
    "n_ctx",
)


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that describes the language model; multimodal configs nest it."""
    nested = config.get("text_config")
    return {**config, **nested} if isinstance(nested, dict) else config


def context_length(config: dict[str, Any]) -> int | None:
    """Positions the model was made for, None if its config names none."""
    facts = text_config(config)
    lengths = [facts[key] for key in _CONTEXT_KEYS if isinstance(facts.get(key), int)]
    if not lengths:
        return None
    return max(int(lengths[0]), _yarn_length(facts))


def _yarn_length(facts: dict[str, Any]) -> int:
    # Some configs (Qwen2.5) switch YaRN on but leave max_position_embeddings at the length before it.
    rope = facts.get("rope_scaling") or facts.get("rope_parameters")
    if not isinstance(rope, dict) or rope.get("rope_type", rope.get("type")) != "yarn":
        return 0
    original, factor = rope.get("original_max_position_embeddings"), rope.get("factor")
    return int(original * factor) if original and factor else 0


def quantization(config: dict[str, Any]) -> dict[str, int] | None:
    """``bits`` and ``group_size`` of the weights, None if they are not quantized."""
    settings = config.get("quantization")
    if not isinstance(settings, dict):
        return None
    return {key: settings[key] for key in ("bits", "group_size") if key in settings}
