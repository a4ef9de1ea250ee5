"""Keys and values in few bits, of rows that are decoded together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.caches import buffers, set_buffers
from mlxbridge.host.engine.kv_rows import KVRows
from mlxbridge.host.engine.layout import Layout
from mlxbridge.host.engine.quantized_cache import Quantization, QuantizedCache


class QuantizedRows(KVRows):
    """Three arrays for the keys and three for the values, as ``QuantizedCache`` has them.

    For one new token a row, the model's attention takes them as they are: mlx_lm asks a cache for these two attributes.

    Attributes:
        bits: of a number.
        group_size: numbers that share a scale and a bias.
    """

    def __init__(self, layout: Layout, quantization: Quantization) -> None:
        super().__init__(layout)
        self.bits = quantization.bits
        self.group_size = quantization.group_size
        self._quantization = quantization

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Any, Any]:
        """Append one step's keys and values; return all, quantized."""
        start, self._end = self._end, self._end + keys.shape[2]
        quantize = self._quantization.quantize
        new = [*quantize(keys), *quantize(values)]
        old: Sequence[mx.array | None] = buffers(self) or [None] * len(new)
        reserved = [
            self._reserve(buffer, part, start, self._end) for buffer, part in zip(old, new, strict=True)
        ]
        for buffer, part in zip(reserved, new, strict=True):
            buffer[..., start : self._end, :] = part
        set_buffers(self, reserved)
        whole = [buffer[..., : self._end, :] for buffer in reserved]
        half = len(whole) // 2
        self.latest = tuple(whole[:half]), tuple(whole[half:])
        return self.latest

    @property
    def nbytes(self) -> int:
        """What the arrays take."""
        return sum(buffer.nbytes for buffer in buffers(self))

    def _plain(self) -> Any:
        return QuantizedCache(self._quantization)
