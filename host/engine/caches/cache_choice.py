"""Which caches a model gets by the host's settings; what it cannot have is refused when it is loaded, with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mlx.core as mx

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.engine.caches.cache_plan import CachePlan, Window
from mlxbridge.host.engine.caches.caches import KVCache, can_be_batched, is_growing, leaves
from mlxbridge.host.engine.caches.quantized_cache import Quantization
from mlxbridge.host.engine.exactness import (
    has_relative_positions,
    is_exact_in_batches,
    is_exact_in_pieces,
)
from mlxbridge.host.engine.interface import DEFAULT_SINKS, EngineLimits
from mlxbridge.host.engine.loader import LoadedModel

# mlx_lm's group, and the one for small heads.
_GROUP_SIZES = (64, 32)


def choose_caches(loaded: LoadedModel, limits: EngineLimits) -> CachePlan:
    """The caches for a model; runs it on a few short prompts if the settings ask for other ones than its own.

    Raises:
        ModelLoadFailed: it cannot have them; the message has the option and the reason.
    """
    plan = CachePlan(loaded.model)
    if limits.kv_bits is not None:
        return _quantized(plan, loaded, limits)
    if limits.kv_window is not None:
        return _with_window(plan, loaded, limits)
    return plan


def _quantized(plan: CachePlan, loaded: LoadedModel, limits: EngineLimits) -> CachePlan:
    assert limits.kv_bits is not None
    option = f"--kv-bits: {loaded.name} cannot have its keys and values quantized"
    caches = plan.make()
    if not can_be_batched(caches):
        raise ModelLoadFailed(f"{option}: it keeps them in {_kinds(leaves(caches))}")
    if not any(is_growing(item) for item in leaves(caches)):
        raise ModelLoadFailed(
            f"{option}: it has none over all tokens, but {_kinds(leaves(caches))}, which do not grow without end"
        )
    sizes = _vector_sizes(plan, caches)
    wanted = _GROUP_SIZES if limits.kv_group_size is None else (limits.kv_group_size,)
    group_size = next((group for group in wanted if all(size % group == 0 for size in sizes)), None)
    if group_size is None:
        raise ModelLoadFailed(
            f"{option}: they have {_listed(map(str, sizes), 'and')} numbers, which groups of "
            f"{_listed(map(str, wanted), 'or')} do not divide evenly"
        )
    quantized = CachePlan(loaded.model, quantization=Quantization(limits.kv_bits, group_size))
    if not is_exact_in_batches(quantized, loaded.vocabulary_size) and is_exact_in_batches(
        plan, loaded.vocabulary_size
    ):
        raise ModelLoadFailed(f"{option}: its attention does not take them so")
    return quantized


def _with_window(plan: CachePlan, loaded: LoadedModel, limits: EngineLimits) -> CachePlan:
    assert limits.kv_window is not None
    option = f"--kv-window: {loaded.name} cannot have a window of {limits.kv_window} tokens"
    caches = plan.make()
    if not all(type(item) is KVCache for item in caches):
        raise ModelLoadFailed(f"{option}: it keeps what it has read in {_kinds(caches)}")
    if loaded.context_length is not None and limits.kv_window > loaded.context_length:
        raise ModelLoadFailed(f"{option}: it was made for a context of {loaded.context_length} tokens")
    sinks = DEFAULT_SINKS if limits.kv_sinks is None else limits.kv_sinks
    chosen = CachePlan(loaded.model, window=Window(limits.kv_window, sinks))
    if not is_exact_in_pieces(chosen.small(), loaded.vocabulary_size):
        raise ModelLoadFailed(f"{option}: read in pieces, a prompt does not see the same as token by token")
    if not has_relative_positions(plan, loaded.vocabulary_size):
        raise ModelLoadFailed(
            f"{option}: it knows tokens by their absolute position, which grows without end"
        )
    return chosen


def _vector_sizes(plan: CachePlan, caches: list[Any]) -> list[int]:
    """Of how many numbers each key and value of the growing caches is, without repetition."""
    mx.eval(plan.model(mx.zeros((1, 1), dtype=mx.int32), cache=caches))
    growing = (item for item in leaves(caches) if is_growing(item))
    return sorted({part.shape[-1] for item in growing for part in (item.keys, item.values)})


def _kinds(caches: Iterable[Any]) -> str:
    return _listed(dict.fromkeys(type(item).__name__ for item in caches), "and")


def _listed(words: Iterable[str], last: str) -> str:
    *others, end = words
    return f"{', '.join(others)} {last} {end}" if others else end
