"""A reranker at work: pairs to token ids, batches of them to logits, logits to scores; apart as in ``encoder``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx
import numpy as np

from mlxbridge.host.embeddings.batching import BATCH_TOKENS, batches
from mlxbridge.host.embeddings.encoder import Vectors, finite
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


class Reranker:
    """One cross-encoder.

    Attributes:
        name: what users call it.
        max_tokens: of a pair.
    """

    def __init__(
        self, name: str, classifier: Classifier, tokenizer: TextTokenizer, activation: Activation
    ) -> None:
        self.name = name
        self.max_tokens = tokenizer.max_tokens
        self._classifier = classifier
        self._tokenizer = tokenizer
        self._activation = activation

    def score(self, request: RerankRequest, *, batch_tokens: int = BATCH_TOKENS) -> Scores:
        """Do all of a request.

        Args:
            request: unchecked.
            batch_tokens: bound for the tokens of a batch, padding among them.

        Raises:
            InvalidArgument: a field is wrong; ``details["field"]`` names it.
            ContextTooLong: a pair is too long, and ``truncate`` is not asked for.
            InternalError: the model made something that is no number.
        """
        pairs = self.read(request)
        lengths = [len(tokens) for tokens in pairs]
        logits = np.empty(len(pairs), np.float32)
        for batch in batches(lengths, batch_tokens):
            logits[batch] = self.compute([pairs[index] for index in batch])
        return Scores(self.finish(logits, request), lengths)

    def read(self, request: RerankRequest) -> list[Tokens]:
        """Check a request, and read its pairs; errors as of ``score``."""
        check_rerank(request)
        fields = [f"documents[{index}]" for index in range(len(request.documents))]
        return self._tokenizer.encode_pairs(
            request.query, request.documents, fields, truncate=request.truncate
        )

    def compute(self, pairs: Sequence[Tokens]) -> Vectors:
        """One forward pass: ``[pairs]`` logits.

        Raises:
            InternalError: the model made something that is no number.
        """
        batch = pad([tokens.ids for tokens in pairs], [tokens.type_ids for tokens in pairs])
        return finite(self._classifier(batch).astype(mx.float32), self.name)

    def finish(self, logits: Vectors, request: RerankRequest) -> Vectors:
        """Logits as a request asks for them."""
        if (request.activation or self._activation) == "none":
            return logits
        # The sigmoid, without what overflows in exp.
        return (0.5 * (1 + np.tanh(logits / 2))).astype(np.float32)
