"""How much memory the device has, and how much of it caches may take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.device import is_cuda, is_gpu
from mlxbridge.host.engine.interface import EngineLimits

# Of the device's memory: for activations, logits, and what MLX keeps for reuse.
_MARGIN = 0.1
# Of the device's memory: caches get so much even where the weights leave less, since the device may swap.
_LEAST = 0.05
# Of a machine whose GPU has no memory of its own: the system and its programs keep the rest, however much Metal offers.
_MOST_OF_MACHINE = 0.8
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


def usable_bytes() -> int:
    """What weights and caches of all models may take together: the device's memory, less what computing takes beside them."""
    usable = int(device_bytes() * (1 - _MARGIN))
    return min(usable, int(_memory_of_machine() * _MOST_OF_MACHINE)) if mx.metal.is_available() else usable


def survey() -> dict[str, Any]:
    """What models run on.

    Returns:
        chip (its name), memory_bytes (of the machine, or of a card that has its own), device_bytes, usable_bytes.
    """
    info = mx.device_info()
    return {
        "chip": str(info.get("device_name", "")),
        "memory_bytes": device_bytes() if is_cuda() else _memory_of_machine(),
        "device_bytes": device_bytes(),
        "usable_bytes": usable_bytes(),
    }


def used_bytes() -> int:
    """What this process has of the device's memory now, buffers that MLX keeps for reuse among it."""
    return mx.get_active_memory() + mx.get_cache_memory()


def cache_budgets(limits: EngineLimits, weight_bytes: int) -> tuple[int, int]:
    """Bytes for running calls' caches, and for cached prefixes; what ``limits`` leaves open is a share of what is left."""
    least = int(device_bytes() * _LEAST) if limits.memory_bytes is None else 0
    usable = usable_bytes() if limits.memory_bytes is None else limits.memory_bytes
    left = max(usable - weight_bytes, least)
    kv, prefix = limits.kv_bytes, limits.prefix_cache_bytes
    if prefix is None:
        prefix = min(_MOST_PREFIX_BYTES, left // 8, max(left - (kv or 0), 0))
    return max(left - prefix, least) if kv is None else kv, prefix


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
