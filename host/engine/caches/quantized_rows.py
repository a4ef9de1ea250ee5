"""Keys and values in few bits, of rows that are decoded together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.caches.caches import buffers, set_buffers
from mlxbridge.host.engine.caches.kv_rows import KVRows
from mlxbridge.host.engine.caches.layout import Layout
from mlxbridge.host.engine.caches.quantized_cache import Quantization, QuantizedCache
from mlxbridge.host.engine.device import multiplies_quantized
from mlxbridge.host.engine.shapes import view_length


class QuantizedRows(KVRows):
    """Three arrays for the keys and three for the values, as ``QuantizedCache`` has them.

    For one new token a row, the model's attention takes them as they are, where the device can; else it gets them made
    whole for the one layer that is computed.

    Attributes:
        bits: of a number. mlx_lm takes a cache that has this attribute for one that hands out three arrays each.
        group_size: numbers that share a scale and a bias.
    """

    def __init__(self, layout: Layout, quantization: Quantization) -> None:
        super().__init__(layout)
        self._quantization = quantization
        self._is_whole = not multiplies_quantized()
        if not self._is_whole:
            self.bits = quantization.bits
            self.group_size = quantization.group_size

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Any, Any]:
        """Append one step's keys and values; return all."""
        num_tokens = keys.shape[2]
        start, self._end = self._end, self._end + num_tokens
        length = view_length(self._end, num_tokens)
        quantize = self._quantization.quantize
        new = [*quantize(keys), *quantize(values)]
        old: Sequence[mx.array | None] = buffers(self) or [None] * len(new)
        set_buffers(
            self,
            [self._write(buffer, part, start, length) for buffer, part in zip(old, new, strict=True)],
        )
        whole = [buffer[..., :length, :] for buffer in buffers(self)]
        half = len(whole) // 2
        self.latest = tuple(whole[:half]), tuple(whole[half:])
        if self._is_whole:
            dequantize = self._quantization.dequantize
            self.latest = dequantize(self.latest[0]), dequantize(self.latest[1])
        return self.latest

    @property
    def nbytes(self) -> int:
        """What the arrays take."""
        return sum(buffer.nbytes for buffer in buffers(self))

    def _plain(self) -> Any:
        return QuantizedCache(self._quantization)
