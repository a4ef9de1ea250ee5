"""mlx_lm's prompt caches, which the host keeps by itself: each function says so."""

from __future__ import annotations

from typing import Any, NoReturn

from mlxbridge.compat.refusal import refused

_WHY = "the host keeps what it has read by itself: leave prompt_cache out, and give the whole chat each time"


def make_prompt_cache(model: Any, max_kv_size: int | None = None) -> NoReturn:
    """There is none to make.

    Raises:
        UsageError: always; it says what to do.
    """
    raise refused("prompt_cache", _WHY)


def load_prompt_cache(file_name: str, return_metadata: bool = False) -> NoReturn:
    """As ``make_prompt_cache``."""
    raise refused("prompt_cache", _WHY)


def save_prompt_cache(file_name: str, cache: Any, metadata: dict[str, str] | None = None) -> NoReturn:
    """As ``make_prompt_cache``."""
    raise refused("prompt_cache", _WHY)


def trim_prompt_cache(cache: Any, num_tokens: int) -> NoReturn:
    """As ``make_prompt_cache``."""
    raise refused("prompt_cache", _WHY)
