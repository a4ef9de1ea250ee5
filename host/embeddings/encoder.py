"""An embedding model at work: inputs to token ids, batches of them to vectors, vectors to what was asked for.

The steps are apart so that inputs of many calls can share a batch, and other work can run beside it (``engine``);
``encode`` does all of them for one request. Nothing here is for more than one thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlxbridge.host.embeddings.batching import BATCH_TOKENS
from mlxbridge.host.embeddings.folder import ModelFiles
from mlxbridge.host.embeddings.model import Alone, Vectors, check_finite
from mlxbridge.host.embeddings.padded import Padded, pad
from mlxbridge.host.embeddings.pooling import Pooling, pool
from mlxbridge.host.embeddings.projection import Projection
from mlxbridge.host.embeddings.request import EmbedRequest, check_embed
from mlxbridge.host.embeddings.tokenizer import TextTokenizer, Tokens
from mlxbridge.host.engine.refusal import invalid, shown


class Backbone(Protocol):
    """What makes states of tokens (``Bert``, ``ModernBert``, ``Decoder``)."""

    hidden_size: int
    max_tokens: int
    vocabulary_size: int

    def __call__(self, batch: Padded) -> mx.array:
        """States, ``[rows, width, hidden_size]``."""


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """What an ``EmbedRequest`` comes to.

    Attributes:
        vectors: ``[inputs, dimensions]``, of the request's dtype, all of them finite.
        num_tokens: that the model read of each input.
    """

    vectors: NDArray[Any]
    num_tokens: list[int]


class Encoder(Alone):
    """One embedding model.

    Attributes:
        kind: which method asks for it.
        name: what users call it.
        codec: its tokenizer.
        dimensions: numbers of a vector, where a request does not ask for fewer.
        max_tokens: of an input.
        prompts: by name.
    """

    kind: ClassVar[Literal["embed"]] = "embed"

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        tokenizer: TextTokenizer,
        files: ModelFiles,
        pooling: Pooling,
        projections: Sequence[Projection] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self._facts = facts or {}
        self.max_tokens = tokenizer.max_tokens
        self.prompts = dict(files.prompts)
        self._size = projections[-1].num_out if projections else backbone.hidden_size
        self.dimensions = min(files.dimensions or self._size, self._size)
        self._backbone = backbone
        self.codec = tokenizer
        self._files = files
        self._pooling = pooling
        self._projections = projections

    def encode(self, request: EmbedRequest, *, batch_tokens: int = BATCH_TOKENS) -> Embeddings:
        """Do all of a request.

        Args:
            request: unchecked.
            batch_tokens: bound for the tokens of a batch, padding among them.

        Raises:
            InvalidArgument: a field is wrong; ``details["field"]`` names it.
            ContextTooLong: an input is too long, and ``truncate`` is not asked for.
            InternalError: the model made something that is no number.
        """
        return Embeddings(*self._answer(request, batch_tokens))

    def check(self, request: EmbedRequest) -> None:
        """Check everything but the inputs' tokens.

        Raises:
            InvalidArgument: a field is wrong; ``details["field"]`` names it.
        """
        check_embed(request)
        self._check(request)

    def read_part(self, request: EmbedRequest, places: range) -> list[Tokens]:
        """Read some inputs of a checked request; errors as of ``encode``."""
        prompt = self._prompt(request)
        inputs = [(place, request.inputs[place]) for place in places]
        texts = {f"inputs[{place}]": prompt + item for place, item in inputs if isinstance(item, str)}
        read = iter(self.codec.encode([*texts.values()], [*texts], truncate=request.truncate))
        return [
            next(read) if isinstance(item, str) else self._ids(item, f"inputs[{place}]", request)
            for place, item in inputs
        ]

    def launch(self, inputs: Sequence[Tokens]) -> mx.array:
        """Begin one forward pass.

        Args:
            inputs: of any requests; the fewer lengths, the less padding is computed.

        Returns:
            ``[inputs, size]`` float32, perhaps not computed yet: not normalized, all numbers of each vector.
        """
        batch = pad([tokens.ids for tokens in inputs])
        vectors = pool(self._backbone(batch), batch, self._pooling)
        for projection in self._projections:
            vectors = projection(vectors)
        mx.async_eval(vectors)  # type: ignore[no-untyped-call]
        return vectors

    def space(self, request: EmbedRequest) -> NDArray[Any]:
        """Memory for what ``finish`` gives of all inputs: ``[inputs, dimensions]``, of the request's dtype."""
        return np.empty((request.num_inputs, request.dimensions or self.dimensions), request.dtype)

    def finish(self, vectors: Vectors, request: EmbedRequest) -> NDArray[Any]:
        """Vectors as a request asks for them: cut, normalized, of its dtype.

        Args:
            vectors: ``[inputs, size]`` from ``compute``.
            request: checked.

        Raises:
            InternalError: the model made something that is no number.
            InvalidArgument: they do not fit float16.
        """
        check_finite(vectors, self.name)
        vectors = vectors[:, : request.dimensions or self.dimensions]
        if self._files.normalizes if request.normalize is None else request.normalize:
            lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
            vectors = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
        if request.dtype == "float32":
            return vectors
        if np.abs(vectors).max() > np.finfo(np.float16).max:
            raise invalid("dtype", "float16 cannot hold these vectors: ask for float32, or for normalize")
        return vectors.astype(np.float16)

    def describe(self) -> dict[str, Any]:
        """``kind``, ``dimensions``, ``max_tokens``, ``pooling``, ``normalizes``, ``prompts`` (their names) and ``default_prompt``;
        and what ``facts`` tells.
        """
        return {
            **self._facts,
            "kind": self.kind,
            "dimensions": self.dimensions,
            "max_tokens": self.max_tokens,
            "pooling": self._pooling,
            "normalizes": self._files.normalizes,
            "prompts": sorted(self.prompts),
            "default_prompt": self._files.default_prompt_name,
        }

    def _check(self, request: EmbedRequest) -> None:
        if request.dimensions is not None and request.dimensions > self._size:
            raise invalid(
                "dimensions", f"must be at most {self._size} with {self.name}, not {request.dimensions}"
            )
        if request.prompt_name is not None and request.prompt_name not in self.prompts:
            known = f"it has {', '.join(sorted(self.prompts))}" if self.prompts else "it has none"
            raise invalid("prompt_name", f"{shown(request.prompt_name)} is no prompt of {self.name}; {known}")

    def _prompt(self, request: EmbedRequest) -> str:
        if request.prompt is not None:
            return request.prompt
        name = request.prompt_name if request.prompt_name is not None else self._files.default_prompt_name
        return self.prompts[name] if name is not None else ""

    def _ids(self, ids: Sequence[int], field: str, request: EmbedRequest) -> Tokens:
        for name in ("prompt", "prompt_name"):
            if getattr(request, name):
                raise invalid(name, f"cannot stand before token ids, which {field} is")
        return self.codec.fit_ids(ids, field, truncate=request.truncate)
