"""What the engine runs, and how it is run without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlxbridge.errors import InternalError
from mlxbridge.host.embeddings.batching import batches
from mlxbridge.host.embeddings.tokenizer import Tokens

Vectors = NDArray[np.float32]


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


class Alone:
    """Does a model's steps one after the other, for one request."""

    def read(self: Model, request: Any) -> list[Tokens]:
        """``check``, and ``read_part`` of all inputs."""
        self.check(request)
        return self.read_part(request, range(request.num_inputs))

    def compute(self: Model, inputs: Sequence[Tokens]) -> Vectors:
        """``launch``, and wait for it."""
        return np.array(self.launch(inputs))

    def _answer(self: _Alone, request: Any, batch_tokens: int) -> tuple[NDArray[Any], list[int]]:
        """All of a request: what ``finish`` gives, and each input's number of tokens."""
        inputs = self.read(request)
        lengths = [len(tokens) for tokens in inputs]
        answers = self.space(request)
        for batch in batches(lengths, batch_tokens):
            answers[batch] = self.finish(self.compute([inputs[index] for index in batch]), request)
        return answers, lengths


class _Alone(Model, Protocol):
    def read(self, request: Any) -> list[Tokens]: ...

    def compute(self, inputs: Sequence[Tokens]) -> Vectors: ...


def check_finite(numbers: Vectors, name: str) -> None:
    """Refuse what is no number; float16 weights, say, can lead out of float16's range.

    Args:
        numbers: computed ones, of any shape.
        name: of the model that made them.

    Raises:
        InternalError: one is NaN or infinite.
    """
    if not np.isfinite(numbers).all():
        raise InternalError(
            f"{name} made something that is no number; try it with weights of float32 or bfloat16"
        )
