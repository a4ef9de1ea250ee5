"""Keys and values in few bits: a plain cache that prompts are read into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models import cache as mlx_lm_cache

# The stubs of mlx_lm know no types.
_KVCache: Any = mlx_lm_cache.KVCache

Parts = tuple[mx.array, ...]


@dataclass(frozen=True, slots=True)
class Quantization:
    """How vectors are kept: each ``group_size`` numbers of one share a scale and a bias (``mlx.core.quantize``, affine).

    Attributes:
        bits: of a number, 8 or 4.
        group_size: 32, 64 or 128; it divides the vectors' size.
    """

    bits: int
    group_size: int

    def quantize(self, vectors: mx.array) -> Parts:
        """(…, size) as three arrays: numbers, packed, uint32 (…, size * bits / 32); scales and biases (…, groups)."""
        return tuple(mx.quantize(vectors, group_size=self.group_size, bits=self.bits))

    def dequantize(self, parts: Parts) -> mx.array:
        """What the three arrays stand for, (…, size), in the dtype of what was quantized."""
        numbers, scales, biases = parts
        return mx.dequantize(numbers, scales, biases, group_size=self.group_size, bits=self.bits)


class QuantizedCache(_KVCache):  # type: ignore[misc]
    """As mlx_lm's ``KVCache``, but ``keys`` and ``values`` are three arrays each; None until the first token.

    mlx_lm's own quantized cache hands the three arrays to the model, whose attention then lays out the scores of all
    queries against all keys: for a long prompt these take more memory than quantizing saves. So here keys and values are
    made whole again for the one layer that is computed, and attention goes the usual way. What it sees is what later
    tokens will see: a token's keys and values are quantized before anybody looks at them, so that an answer does not
    depend on the pieces in which its prompt was read.
    """

    def __init__(self, quantization: Quantization) -> None:
        super().__init__()
        self.keys: Parts | None = None
        self.values: Parts | None = None
        self.offset = 0
        self.quantization = quantization

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append keys and values, (rows, heads, tokens, size); return all."""
        start, self.offset = self.offset, self.offset + keys.shape[2]
        self.keys = self._append(self.keys, self.quantization.quantize(keys), start)
        self.values = self._append(self.values, self.quantization.quantize(values), start)
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        """All of them, made whole."""
        assert self.keys is not None and self.values is not None
        return self._whole(self.keys), self._whole(self.values)

    @property
    def nbytes(self) -> int:
        """What the arrays take."""
        return sum(part.nbytes for part in (*(self.keys or ()), *(self.values or ())))

    def _whole(self, parts: Parts) -> mx.array:
        return self.quantization.dequantize(tuple(part[..., : self.offset, :] for part in parts))

    def _append(self, parts: Parts | None, new: Parts, start: int) -> Parts:
        if parts is None or parts[0].shape[2] < self.offset:
            room = -(-(self.offset - start) // self.step) * self.step
            more = tuple(mx.zeros((*part.shape[:2], room, part.shape[3]), part.dtype) for part in new)
            if parts is None:
                parts = more
            else:
                pairs = zip(parts, more, strict=True)
                parts = tuple(mx.concatenate([part[..., :start, :], zeros], axis=2) for part, zeros in pairs)
        for part, added in zip(parts, new, strict=True):
            part[..., start : self.offset, :] = added
        return parts
