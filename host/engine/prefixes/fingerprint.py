"""What cached parts of prompts depend on beside the prompt: equal fingerprints, equal caches."""

from __future__ import annotations

import json
from hashlib import blake2b
from importlib.metadata import version
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mlxbridge.host.engine.caches.cache_plan import CachePlan
from mlxbridge.host.engine.caches.caches import leaves
from mlxbridge.host.engine.device import is_cuda, is_gpu
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.prefixes.part_forms import PartForms

# Changes with what the bytes of a part mean.
_FORMAT = 1
# Words summed up at a time: what is between stays small, and on a CPU in its cache.
_CHUNK_WORDS = 1 << 20


def fingerprint(loaded: LoadedModel, plan: CachePlan, forms: PartForms) -> str:
    """32 hex digits that change with the weights, the config, what the caches are like, and what computes them.

    The weights themselves are summed up, where they are: a file's name, size and time say little of what is in it. That
    takes about as long as reading them once.
    """
    config = json.dumps(loaded.config, sort_keys=True, default=repr)
    kinds = [_kind(item) for item in leaves(plan.make())]
    facts: list[Any] = [_FORMAT, version("mlx"), version("mlx-lm"), _device(), config, kinds, plan.facts()]
    facts += [forms.of(1, 1), forms.of(0, 1)]
    digest = blake2b(repr(facts).encode(), digest_size=16)
    flat: Any = tree_flatten(loaded.model.parameters())
    for name, leaf in sorted(flat):
        digest.update(f"{name} {leaf.dtype} {leaf.shape} {_sum(leaf)};".encode())
    return digest.hexdigest()


def _kind(cache: Any) -> tuple[str, dict[str, Any]]:
    """An empty cache's class and settings, such as the length of a sliding window."""
    settings = {name: value for name, value in vars(cache).items() if isinstance(value, int | float | str)}
    return type(cache).__name__, dict(sorted(settings.items()))


def _device() -> str:
    return "cuda" if is_cuda() else "metal" if is_gpu() else "cpu"


def _sum(array: mx.array) -> int:
    """A number below 2^32 that any change of one word of an array changes, and any other one nearly always.

    Each word is multiplied by an odd number that depends on its place, modulo 2^32.
    """
    flat = array.reshape(-1).view(mx.uint8)
    if flat.size % 4:
        flat = mx.pad(flat, (0, -flat.size % 4))
    words = flat.view(mx.uint32)
    factors = mx.arange(min(words.size, _CHUNK_WORDS), dtype=mx.uint32) * _word(0x9E3779B1) | _word(1)
    total = _word(0)
    for start in range(0, words.size, _CHUNK_WORDS):
        chunk = words[start : start + _CHUNK_WORDS]
        total = total * _word(0x85EBCA6B) + mx.sum(chunk * factors[: chunk.size])
    number: Any = total.item()
    return int(number)


def _word(number: int) -> mx.array:
    return mx.array(number, mx.uint32)
