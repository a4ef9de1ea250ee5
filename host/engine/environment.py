"""What MLX and transformers find around them; imports neither, since it has to be set before that."""

from __future__ import annotations

import os
import sys


def prepare_environment() -> None:
    """Let MLX's caches on CUDA hold enough, and never stop a host that has run for long; what is set already stays.

    - Attention is planned for each pair of lengths: one long prompt passes MLX's own bound on the plans it keeps.
    - A cache that has missed twice as often as it has places raises, though the misses of a process's whole life count
      (MLX's ``backend/cuda/lru_cache.h``): lengths that are new come for as long as guests do.

    Where torch is installed, transformers would import it for its tokenizers: seconds, and hundreds of megabytes.
    """
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]  # (see ``importlib``: it is as if not installed)
    os.environ.setdefault("MLX_CUDA_SDPA_CACHE_SIZE", "4096")
    os.environ.setdefault("MLX_ENABLE_CACHE_THRASHING_CHECK", "0")
