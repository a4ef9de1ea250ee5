"""What is used of ``mlx.nn``, with types: its own files pass names on in a way that mypy does not follow, and have few."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import mlx.core as mx

if TYPE_CHECKING:

    class Module:
        """A part of a model; arrays and modules among its attributes are its parameters."""

        def __init__(self) -> None: ...
        def parameters(self) -> dict[str, Any]:
            """Nested as the attributes are."""

        def load_weights(self, weights: list[tuple[str, mx.array]]) -> Module:
            """Set all parameters, and no others, or raise ValueError."""

        def eval(self) -> Module:
            """Leave training."""

        def modules(self) -> list[Module]:
            """Itself, and all within."""

    class Map(Module):
        """A module of one array."""

        def __call__(self, x: mx.array) -> mx.array: ...

    class Linear(Map):
        """``x @ weight.T + bias``."""

        weight: mx.array

        def __init__(self, input_dims: int, output_dims: int, bias: bool = True) -> None: ...

    class Embedding(Map):
        """Rows of ``weight``, by their numbers."""

        def __init__(self, num_embeddings: int, dims: int) -> None: ...

    class LayerNorm(Map):
        """Mean 0 and variance 1 along the last axis, then ``* weight + bias``."""

        def __init__(self, dims: int, eps: float = 1e-5, affine: bool = True, bias: bool = True) -> None: ...

    class Identity(Map):
        """What came in."""

    def gelu(x: mx.array) -> mx.array:
        """By the error function."""

    def gelu_approx(x: mx.array) -> mx.array:
        """By tanh."""

    def relu(x: mx.array) -> mx.array:
        """What is above 0."""

    def silu(x: mx.array) -> mx.array:
        """``x * sigmoid(x)``."""

    def quantize(
        model: Module,
        *,
        group_size: int,
        bits: int,
        mode: str,
        class_predicate: Callable[[str, Module], bool | dict[str, Any]],
    ) -> None:
        """Put quantized layers in the place of those that the predicate chooses by path."""

else:
    from mlx.nn import (
        Embedding,
        Identity,
        LayerNorm,
        Linear,
        Module,
        gelu,
        gelu_approx,
        quantize,
        relu,
        silu,
    )

__all__ = [
    "Embedding",
    "Identity",
    "LayerNorm",
    "Linear",
    "Module",
    "gelu",
    "gelu_approx",
    "quantize",
    "relu",
    "silu",
]
