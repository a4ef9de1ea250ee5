"""Dense layers behind pooling, such as the two of EmbeddingGemma (``2_Dense``, ``3_Dense``)."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.embeddings import nn
from mlxbridge.host.embeddings.activations import activation
from mlxbridge.host.embeddings.folder import read_json
from mlxbridge.host.embeddings.weights import fill, read_weights


class Projection(nn.Module):
    """One layer: ``activation(linear(vectors))``.

    Attributes:
        num_in: numbers of a vector that comes in.
        num_out: numbers of one that goes out.
    """

    def __init__(self, num_in: int, num_out: int, *, has_bias: bool, activation_name: str) -> None:
        super().__init__()
        self.num_in = num_in
        self.num_out = num_out
        self.linear = nn.Linear(num_in, num_out, bias=has_bias)
        self._activate = activation(activation_name)

    def __call__(self, vectors: mx.array) -> mx.array:
        """``[rows, num_in]`` to ``[rows, num_out]``, both float32."""
        return self._activate(self.linear(vectors)).astype(mx.float32)


def load_projection(folder: Path) -> Projection:
    """Read one from its folder.

    Raises:
        ModelLoadFailed: a file is missing or damaged, its weights are no safetensors, or it is another kind of layer.
    """
    config = read_json(folder / "config.json")
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise ModelLoadFailed(f"{folder.name} works on {config[key]!r}, not on vectors")
    projection = Projection(
        config["in_features"],
        config["out_features"],
        has_bias=config.get("bias", True),
        activation_name=config.get("activation_function", "torch.nn.modules.activation.Tanh"),
    )
    if not (weights := read_weights(folder)):
        raise ModelLoadFailed(f"{folder.name} lacks model.safetensors")
    fill(projection, weights, {})
    return projection
