"""How many tokens an input may have, as a model's files say; imports no mlx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LIMITS = "sentence_*_config.json"
# RoBERTa's positions begin behind the id of padding, whose place in the table is its own.
_COUNTS_FROM_PADDING = {"roberta", "xlm-roberta", "camembert"}


def stated_limit(limits: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> int | None:
    """What ``sentence_*_config.json`` says, or else ``tokenizer_config.json``."""
    if isinstance(limit := limits.get("max_seq_length"), int):
        return limit
    limit = tokenizer.get("model_max_length")
    return int(limit) if isinstance(limit, int | float) else None


def first_position(config: Mapping[str, Any]) -> int:
    """The place of an input's first token among a model's positions."""
    return int(config["pad_token_id"]) + 1 if config.get("model_type") in _COUNTS_FROM_PADDING else 0
