"""What the engine runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import mlx.core as mx
from numpy.typing import NDArray

from mlxbridge.host.embeddings.encoder import Vectors
from mlxbridge.host.embeddings.tokenizer import Tokens


class Model(Protocol):
    """What is run: an ``Encoder`` or a ``Reranker``, which explain these."""

    @property
    def kind(self) -> str:
        """The method that asks for it."""

    @property
    def name(self) -> str:
        """What users call it."""

    def check(self, request: Any) -> None:
        """Refuse what is wrong, but for the inputs' tokens."""

    def read_part(self, request: Any, places: range) -> list[Tokens]:
        """Inputs to tokens."""

    def launch(self, inputs: Sequence[Tokens]) -> mx.array:
        """Begin a forward pass."""

    def space(self, request: Any) -> NDArray[Any]:
        """Memory for all that ``finish`` gives."""

    def finish(self, vectors: Vectors, request: Any) -> NDArray[Any]:
        """What was computed, as a request asks for it."""

    def describe(self) -> dict[str, Any]:
        """Facts."""
