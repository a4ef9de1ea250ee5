"""Cross-encoders: an encoder that reads query and document as one input, and a head that makes a score of it.

They are transformers' ``…ForSequenceClassification`` with one label; attributes are named as in their weights.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.embeddings import nn
from mlxbridge.host.embeddings.activations import activation
from mlxbridge.host.embeddings.bert import Bert
from mlxbridge.host.embeddings.modernbert import ModernBert, norm
from mlxbridge.host.embeddings.padded import Padded
from mlxbridge.host.embeddings.pooling import Pooling, pool


class BertClassifier(nn.Module):
    """BERT: its own pooler over the first token, then one layer."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.bert = Bert(config, has_pooler=True)
        self.classifier = nn.Linear(self.bert.hidden_size, 1)

    @property
    def encoder(self) -> Bert:
        """What reads the pairs."""
        return self.bert

    def __call__(self, batch: Padded) -> mx.array:
        """A logit for each row, ``[rows]``."""
        first = self.bert(batch)[:, 0]
        return self.classifier(mx.tanh(self.bert.pooler.dense(first)))[:, 0]


class RobertaClassifier(nn.Module):
    """XLM-RoBERTa: two layers over the first token."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.roberta = Bert(config)
        self.classifier = RobertaHead(self.roberta.hidden_size)

    @property
    def encoder(self) -> Bert:
        """What reads the pairs."""
        return self.roberta

    def __call__(self, batch: Padded) -> mx.array:
        """A logit for each row, ``[rows]``."""
        return self.classifier(self.roberta(batch)[:, 0])[:, 0]


class RobertaHead(nn.Module):
    """Two dense layers."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(size, size)
        self.out_proj = nn.Linear(size, 1)

    def __call__(self, vectors: mx.array) -> mx.array:
        """``[rows, size]`` to ``[rows, 1]``."""
        return self.out_proj(mx.tanh(self.dense(vectors)))


class ModernBertClassifier(nn.Module):
    """ModernBERT: a normalized layer over the first token, or over the mean of all, then one layer."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.model = ModernBert(config)
        self.head = ModernBertHead(config)
        self.classifier = nn.Linear(self.model.hidden_size, 1)
        self._pooling = _pooling(config)

    @property
    def encoder(self) -> ModernBert:
        """What reads the pairs."""
        return self.model

    def __call__(self, batch: Padded) -> mx.array:
        """A logit for each row, ``[rows]``."""
        states = self.model(batch)
        pooled = pool(states, batch, self._pooling).astype(states.dtype)
        return self.classifier(self.head(pooled))[:, 0]


class ModernBertHead(nn.Module):
    """A dense layer, normalized after its activation."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        size = config["hidden_size"]
        self.dense = nn.Linear(size, size, bias=config.get("classifier_bias", False))
        self.norm = norm(config)
        self._activate = activation(config.get("classifier_activation", "gelu"))

    def __call__(self, vectors: mx.array) -> mx.array:
        """``[rows, size]`` to the same."""
        return self.norm(self._activate(self.dense(vectors)))


def _pooling(config: dict[str, Any]) -> Pooling:
    kind = config.get("classifier_pooling", "cls")
    if kind == "cls":
        return "cls"
    if kind == "mean":
        return "mean"
    raise ModelLoadFailed(f"its classifier_pooling is {kind!r}; known are 'cls' and 'mean'")
