"""Runs what the first calls would otherwise wait for: a GPU builds many of its kernels at their first use."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from mlxbridge.host.embeddings.model import Model
from mlxbridge.host.embeddings.tokenizer import Tokens

# Rows of each batch, and tokens of its longest and its shortest: alone, padded, and many at once.
_BATCHES = ((1, 8, 8), (3, 16, 5), (64, 16, 16))


def warm_up(model: Model) -> None:
    """Compute a few batches of token 0. Nothing on the CPU, which builds nothing."""
    if not _is_gpu():
        return
    for num_rows, longest, shortest in _BATCHES:
        rows = [longest, *[shortest] * (num_rows - 1)]
        np.array(model.launch([Tokens([0] * length, [0] * length) for length in rows]))


def _is_gpu() -> bool:
    return mx.default_device().type == mx.DeviceType.gpu
