"""A sliding window with attention sinks: a plain cache that prompts are read into."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models import cache as mlx_lm_cache

# The stubs of mlx_lm know no types.
_RotatingKVCache: Any = mlx_lm_cache.RotatingKVCache


class WindowCache(_RotatingKVCache):  # type: ignore[misc]
    """Keys and values of the first ``keep`` tokens and of the last ones, ``max_size`` in all, in the order of time.

    The first ones are attention sinks (Xiao et al., "Efficient Streaming Language Models with Attention Sinks", 2023);
    positions go on counting, as in mlx_lm. Its own ``RotatingKVCache(max_size, keep)`` shows a token the same if it is
    read by itself; of tokens that are read in one piece it hides the sinks from all but the first, so that an answer
    depends on the pieces in which its prompt was read. Here it does not.
    """

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append keys and values, (rows, heads, tokens, size); return those that the first of the tokens sees, and theirs."""
        fetched: tuple[mx.array, mx.array] = self._update_concat(keys, values)
        return fetched

    def make_mask(self, num_tokens: int, window_size: int | None = None, return_array: bool = False) -> Any:
        """Which of the places that ``update_and_fetch`` will return the next tokens see; None and "causal" as in mlx_lm."""
        end = self.offset + num_tokens
        is_whole = window_size is None or end <= window_size
        if num_tokens == 1 and is_whole:
            return None
        if end <= self.max_size and is_whole and not return_array:
            return "causal"
        num_cached = min(self.offset, self.max_size - 1)
        places = mx.arange(num_cached + num_tokens)
        tokens = mx.where(places < self.keep, places, places + (self.offset - num_cached))
        own = mx.arange(self.offset, end)[:, None]
        mask = (tokens <= own) & ((own < tokens + (self.max_size - self.keep)) | (tokens < self.keep))
        return mask if window_size is None else mask & (own < tokens + window_size)
