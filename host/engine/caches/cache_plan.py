"""In what a model keeps what it has read: its own caches, or by the host's settings others in their place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mlx_lm.models.cache import make_prompt_cache

from mlxbridge.host.engine.caches.caches import CacheList, KVCache
from mlxbridge.host.engine.caches.quantized_cache import Quantization, QuantizedCache
from mlxbridge.host.engine.caches.window_cache import WindowCache


@dataclass(frozen=True, slots=True)
class Window:
    """How many tokens each token sees, itself among them, and how many of these are the first ones."""

    num_tokens: int
    num_sinks: int


@dataclass(frozen=True, slots=True)
class CachePlan:
    """A model, and the plain caches that its prompts are read into.

    Attributes:
        quantization: of keys and values over all tokens; sliding windows and recurrent states, which do not grow without
            end, stay as they are.
        window: for a model all of whose layers have plain keys and values over all tokens.
    """

    model: Any
    quantization: Quantization | None = None
    window: Window | None = None

    def make(self) -> list[Any]:
        """Empty caches, one a layer."""
        caches: list[Any] = make_prompt_cache(self.model)
        return [self._chosen(item) for item in caches]

    def small(self) -> CachePlan:
        """The same with so short a window that a few tokens show what it does."""
        if self.window is None:
            return self
        return replace(self, window=Window(_SMALL_WINDOW, min(self.window.num_sinks, _SMALL_SINKS)))

    def facts(self) -> dict[str, int | None]:
        """``kv_bits`` and ``kv_group_size``, ``kv_window`` and ``kv_sinks``: None where there is no such thing."""
        bits, window = self.quantization, self.window
        return {
            "kv_bits": None if bits is None else bits.bits,
            "kv_group_size": None if bits is None else bits.group_size,
            "kv_window": None if window is None else window.num_tokens,
            "kv_sinks": None if window is None else window.num_sinks,
        }

    def _chosen(self, item: Any) -> Any:
        if isinstance(item, CacheList):
            return CacheList(*(self._chosen(part) for part in item.caches))
        if type(item) is KVCache and self.window is not None:
            return WindowCache(self.window.num_tokens, self.window.num_sinks)
        if type(item) is KVCache and self.quantization is not None:
            return QuantizedCache(self.quantization)
        return item


_SMALL_WINDOW = 8
_SMALL_SINKS = 2
