"""What MLX reads from the environment; imports no mlx, since it has to be set before that."""

from __future__ import annotations

import os


def prepare_environment() -> None:
    """Make room for plans of attention on CUDA, one for each pair of lengths: one long prompt passes MLX's own bound."""
    os.environ.setdefault("MLX_CUDA_SDPA_CACHE_SIZE", "4096")
