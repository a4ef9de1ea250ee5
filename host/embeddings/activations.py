"""Activation functions by the names that published configs have for them."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.embeddings import nn

Function = Callable[[mx.array], mx.array]

_FUNCTIONS: dict[str, Function] = {
    "gelu": nn.gelu,
    "gelu_new": nn.gelu_approx,
    "gelu_pytorch_tanh": nn.gelu_approx,
    "relu": nn.relu,
    "silu": nn.silu,
    "swish": nn.silu,
    "tanh": mx.tanh,
    "identity": lambda x: x,
}


def activation(name: str) -> Function:
    """The function of a config's name, or of a torch class' full name (``torch.nn.modules.activation.Tanh``).

    Raises:
        ModelLoadFailed: it is not known.
    """
    function = _FUNCTIONS.get(name.rpartition(".")[2].lower())
    if function is None:
        raise ModelLoadFailed(f"its activation function {name!r} is none of {', '.join(_FUNCTIONS)}")
    return function
