"""What MLX computes on."""

from __future__ import annotations

import mlx.core as mx


def is_gpu() -> bool:
    """Whether models run on a GPU."""
    return mx.default_device().type == mx.DeviceType.gpu


def is_cuda() -> bool:
    """Whether that is an NVIDIA card."""
    return mx.cuda.is_available() and is_gpu()


def multiplies_quantized() -> bool:
    """Whether ``mx.quantized_matmul`` takes any shape; MLX has it for an NVIDIA card in shapes of weights only."""
    return not is_cuda()
