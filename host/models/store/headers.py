"""What is in safetensors files, read from their headers alone."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.engine.checkpoint import WEIGHTS, read_header


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's dtype, such as ``BF16``, its shape, and the bytes that it takes."""

    dtype: str
    shape: tuple[int, ...]
    num_bytes: int

    @property
    def num_elements(self) -> int:
        """Numbers in it, packed ones counted as one."""
        return math.prod(self.shape)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a model's weights by name.

    Raises:
        ModelLoadFailed: a file is damaged or cannot be read.
    """
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob(WEIGHTS)):
        try:
            tensors.update(_read(path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise ModelLoadFailed(f"{path} is damaged or cannot be read: {error}") from error
    return tensors


def count_parameters(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> int:
    """Weights, as mlx_lm counts: a quantized one counts as the one it stands for, its scales and biases not at all."""
    total = 0
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        scales = tensors.get(f"{module}.scales")
        if scales is None:
            total += tensor.num_elements
        elif leaf == "weight":
            total += scales.num_elements * _group_size(module, config)
        elif leaf == "bias":
            total += tensor.num_elements
    return total


def main_dtype(tensors: Mapping[str, Tensor]) -> str | None:
    """The dtype that takes the most bytes among those of floating numbers, as mlx names it."""
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        if tensor.dtype in _DTYPES:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.num_bytes
    return _DTYPES[max(sizes, key=sizes.__getitem__)] if sizes else None


_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def _group_size(module: str, config: Mapping[str, Any]) -> int:
    settings = config.get("quantization")
    settings = settings if isinstance(settings, dict) else {}
    own = settings.get(module)
    size = (own if isinstance(own, dict) else settings).get("group_size", 64)
    return size if type(size) is int else 64


def _read(path: Path) -> dict[str, Tensor]:
    return {
        name: Tensor(
            entry["dtype"], tuple(entry["shape"]), entry["data_offsets"][1] - entry["data_offsets"][0]
        )
        for name, entry in read_header(path).items()
        if name != "__metadata__"
    }
