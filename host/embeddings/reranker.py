"""A reranker at work: pairs to token ids, batches of them to logits, logits to scores; apart as in ``encoder``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import mlx.core as mx
import numpy as np

from mlxbridge.host.embeddings.batching import BATCH_TOKENS
from mlxbridge.host.embeddings.model import Alone, Vectors, check_finite
from mlxbridge.host.embeddings.padded import Padded, pad
from mlxbridge.host.embeddings.request import Activation, RerankRequest, check_rerank
from mlxbridge.host.embeddings.tokenizer import TextTokenizer, Tokens


class Classifier(Protocol):
    """What makes a logit of each pair (``BertClassifier`` and the others)."""

    def __call__(self, batch: Padded) -> mx.array:
        """Logits, ``[rows]``."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What a ``RerankRequest`` comes to.

    Attributes:
        scores: ``[documents]`` float32 in their order, all of them finite; more is better.
        num_tokens: that the model read of each pair.
    """

    scores: Vectors
    num_tokens: list[int]


class Reranker(Alone):
    """One cross-encoder.

    Attributes:
        kind: which method asks for it.
        name: what users call it.
        codec: its tokenizer.
        max_tokens: of a pair.
    """

    kind: ClassVar[Literal["rerank"]] = "rerank"

    def __init__(
        self,
        name: str,
        classifier: Classifier,
        tokenizer: TextTokenizer,
        activation: Activation,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self._facts = facts or {}
        self.max_tokens = tokenizer.max_tokens
        self._classifier = classifier
        self.codec = tokenizer
        self._activation = activation

    def score(self, request: RerankRequest, *, batch_tokens: int = BATCH_TOKENS) -> Scores:
        """Do all of a request, but for choosing the best.

        Args:
            request: unchecked.
            batch_tokens: bound for the tokens of a batch, padding among them.

        Raises:
            InvalidArgument: a field is wrong; ``details["field"]`` names it.
            ContextTooLong: a pair is too long, and ``truncate`` is not asked for.
            InternalError: the model made something that is no number.
        """
        return Scores(*self._answer(request, batch_tokens))

    def check(self, request: RerankRequest) -> None:
        """Check everything but the pairs' tokens.

        Raises:
            InvalidArgument: a field is wrong; ``details["field"]`` names it.
        """
        check_rerank(request)

    def read_part(self, request: RerankRequest, places: range) -> list[Tokens]:
        """Read some pairs of a checked request; errors as of ``score``."""
        return self.codec.encode_pairs(
            request.query,
            [request.documents[place] for place in places],
            [f"documents[{place}]" for place in places],
            truncate=request.truncate,
        )

    def launch(self, pairs: Sequence[Tokens]) -> mx.array:
        """Begin one forward pass: ``[pairs]`` float32 logits, perhaps not computed yet."""
        batch = pad([tokens.ids for tokens in pairs], [tokens.type_ids for tokens in pairs])
        logits = self._classifier(batch).astype(mx.float32)
        mx.async_eval(logits)  # type: ignore[no-untyped-call]
        return logits

    def space(self, request: RerankRequest) -> Vectors:
        """Memory for what ``finish`` gives of all pairs: ``[documents]`` float32."""
        return np.empty(request.num_inputs, np.float32)

    def finish(self, logits: Vectors, request: RerankRequest) -> Vectors:
        """Logits as a request asks for them.

        Raises:
            InternalError: the model made something that is no number.
        """
        check_finite(logits, self.name)
        if (request.activation or self._activation) == "none":
            return logits
        # The sigmoid, without what overflows in exp.
        return (0.5 * (1 + np.tanh(logits / 2))).astype(np.float32)

    def describe(self) -> dict[str, Any]:
        """``kind``, ``max_tokens`` (of a pair) and ``activation`` (of its scores, if a call does not say); and what ``facts`` tells."""
        return {
            **self._facts,
            "kind": self.kind,
            "max_tokens": self.max_tokens,
            "activation": self._activation,
        }
