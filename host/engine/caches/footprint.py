"""How much memory a call's caches take, by its length in tokens."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mlxbridge.host.engine.caches.cache_plan import CachePlan
from mlxbridge.host.engine.caches.caches import ArraysCache, RotatingKVCache, leaves

# Buffers grow by so many places at a time, ours as mlx_lm's.
_GROWTH = 256
_ENDLESS = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What one row of a model's caches takes.

    Attributes:
        token_bytes: that each token takes in the caches that grow without end, over all layers.
        windows: for each size of sliding window, its tokens, and bytes for each of them.
        fixed_bytes: recurrent states.
    """

    token_bytes: int
    windows: tuple[tuple[int, int], ...] = ()
    fixed_bytes: int = 0

    @property
    def most_fixed_bytes(self) -> int:
        """What does not grow any more once the windows are full."""
        return self.fixed_bytes + sum(size * per_token for size, per_token in self.windows)

    def held_bytes(self, num_tokens: int) -> int:
        """Bytes of keys and values that so many tokens of one row, or as many places, are seen with."""
        return num_tokens * self.token_bytes + sum(
            min(num_tokens, size) * per_token for size, per_token in self.windows
        )

    def row_bytes(self, num_tokens: int) -> int:
        """Bytes of buffers that hold so many tokens of one row, or as many places; with the room to grow."""
        places = (num_tokens // _GROWTH + 1) * _GROWTH
        return self.fixed_bytes + self.held_bytes(places)

    def beside(self, other: Footprint) -> Footprint:
        """What a row takes in both models' caches."""
        return Footprint(
            token_bytes=self.token_bytes + other.token_bytes,
            windows=self.windows + other.windows,
            fixed_bytes=self.fixed_bytes + other.fixed_bytes,
        )

    def most_tokens(self, budget: int) -> int:
        """How many tokens one row may have for its buffers to stay within ``budget`` bytes; 0 if none fits."""
        return max(0, bisect_right(range(_ENDLESS), budget, key=self.row_bytes) - 1)


def measure_footprint(plan: CachePlan) -> Footprint:
    """Run one token through a model, and look at its caches."""
    caches = plan.make()
    mx.eval(plan.model(mx.zeros((1, 1), dtype=mx.int32), cache=caches))
    growing, fixed = 0, 0
    windows: dict[int, int] = {}
    for cache in leaves(caches):
        if isinstance(cache, ArraysCache):
            fixed += cache.nbytes
        elif isinstance(cache, RotatingKVCache):
            windows[cache.max_size] = windows.get(cache.max_size, 0) + _token_bytes(cache.state)
        else:
            growing += _token_bytes(cache.state)
    return Footprint(token_bytes=growing, windows=tuple(sorted(windows.items())), fixed_bytes=fixed)


def _token_bytes(state: Any) -> int:
    # Keys and values are (rows, heads, places, size), also the parts of quantized ones.
    parts: Any = tree_flatten(state)
    return sum(
        part.nbytes // part.shape[2] for _, part in parts if isinstance(part, mx.array) and part.ndim == 4
    )
