"""How much memory the device has, and how much of it caches may take."""

from __future__ import annotations

import os
from pathlib import Path

import mlx.core as mx

from mlxbridge.host.engine.device import is_gpu
from mlxbridge.host.engine.interface import EngineLimits

# Of the device's memory: for activations, logits, and what MLX keeps for reuse.
_MARGIN = 0.1
# Of the device's memory: caches get so much even where the weights leave less, since the device may swap.
_LEAST = 0.05
_MOST_PREFIX_BYTES = 2 << 30
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def device_bytes() -> int:
    """Memory that MLX's default device can well use.

    Metal: the recommended working set, which is less than the machine's memory. CUDA: all of the device's. CPU: half
    of the machine's, or of what this process' control group may have.
    """
    if not is_gpu():
        return _memory_of_machine() // 2
    info = mx.device_info()
    for key in ("max_recommended_working_set_size", "total_memory", "memory_size"):
        if size := int(info.get(key, 0)):
            return size
    return _memory_of_machine() // 2


def cache_budgets(limits: EngineLimits, weight_bytes: int) -> tuple[int, int]:
    """Bytes for running calls' caches, and for cached prefixes; what ``limits`` leaves open is a share of what is left."""
    device = device_bytes()
    left = max(int(device * (1 - _MARGIN)) - weight_bytes, int(device * _LEAST))
    prefix = limits.prefix_cache_bytes
    if prefix is None:
        prefix = min(_MOST_PREFIX_BYTES, left // 8)
    if limits.kv_bytes is not None:
        return limits.kv_bytes, prefix
    return max(left - prefix, int(device * _LEAST)), prefix


def is_out_of_memory(exc: Exception) -> bool:
    """Whether MLX, or Python, failed for want of memory."""
    text = str(exc).lower()
    return isinstance(exc, MemoryError) or (
        isinstance(exc, RuntimeError)
        and any(phrase in text for phrase in ("malloc", "out of memory", "insufficient memory"))
    )


def _memory_of_machine() -> int:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = _CGROUP_LIMIT.read_text().strip()
    except OSError:
        return size
    return min(size, int(limit)) if limit.isdigit() else size
