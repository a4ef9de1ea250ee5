"""BERT (Devlin et al., 2018) and XLM-RoBERTa (Conneau et al., 2019): one encoder that counts positions from 0 or later.

Attributes are named as in the published weights (``encoder.layer.0.attention.self.query``).
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.embeddings import nn
from mlxbridge.host.embeddings.activations import activation
from mlxbridge.host.embeddings.limits import first_position
from mlxbridge.host.embeddings.padded import Mask, Padded


class Bert(nn.Module):
    """The encoder.

    Args:
        config: ``config.json``.
        has_pooler: whether the weights of BERT's own pooler, a layer over the first token, are there and wanted.

    Attributes:
        hidden_size: of a token's state.
        max_tokens: of an input, as many as there are positions.
        vocabulary_size: every token id is below it.

    Raises:
        ModelLoadFailed: the config asks for what this encoder is not.
    """

    def __init__(self, config: dict[str, Any], *, has_pooler: bool = False) -> None:
        super().__init__()
        _check(config)
        self.hidden_size: int = config["hidden_size"]
        self.vocabulary_size: int = config["vocab_size"]
        first = first_position(config)
        self.max_tokens = int(config["max_position_embeddings"]) - first
        self.embeddings = Embeddings(config, first)
        self.encoder = Stack(config)
        if has_pooler:
            self.pooler = Dense(self.hidden_size, self.hidden_size)

    def __call__(self, batch: Padded) -> mx.array:
        """States of all tokens, ``[rows, width, hidden_size]``; those of padding mean nothing."""
        mask = batch.bidirectional_mask()
        states = self.embeddings(batch)
        for layer in self.encoder.layer:
            states = layer(states, mask)
        return states


class Embeddings(nn.Module):
    """Word, position and segment of each token, added up."""

    def __init__(self, config: dict[str, Any], first_position: int) -> None:
        super().__init__()
        size = config["hidden_size"]
        self._first_position = first_position
        self._has_segments = config["type_vocab_size"] > 1
        self.word_embeddings = nn.Embedding(config["vocab_size"], size)
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], size)
        self.token_type_embeddings = nn.Embedding(config["type_vocab_size"], size)
        self.LayerNorm = nn.LayerNorm(size, eps=config["layer_norm_eps"])

    def __call__(self, batch: Padded) -> mx.array:
        """``[rows, width, hidden_size]``, normalized."""
        # A model of one segment (XLM-RoBERTa) has pairs in that one too, whatever its tokenizer calls the second.
        segments = batch.type_ids if self._has_segments else mx.zeros_like(batch.type_ids)
        positions = mx.arange(self._first_position, self._first_position + batch.width)
        return self.LayerNorm(
            self.word_embeddings(batch.token_ids)
            + self.position_embeddings(positions)
            + self.token_type_embeddings(segments)
        )


class Stack(nn.Module):
    """The layers."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.layer = [Layer(config) for _ in range(config["num_hidden_layers"])]


class Layer(nn.Module):
    """Attention, then two dense layers; each added to what came in, and normalized after that."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Dense(config["hidden_size"], config["intermediate_size"])
        self.output = Residual(config, config["intermediate_size"])
        self._activate = activation(config["hidden_act"])

    def __call__(self, states: mx.array, mask: Mask) -> mx.array:
        """States of all tokens to their next states."""
        states = self.attention(states, mask)
        return self.output(self._activate(self.intermediate.dense(states)), states)


class Attention(nn.Module):
    """Self-attention, and the layer behind it."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.self = SelfAttention(config)
        self.output = Residual(config, config["hidden_size"])

    def __call__(self, states: mx.array, mask: Mask) -> mx.array:
        """States with what the tokens took from each other."""
        return self.output(self.self(states, mask), states)


class SelfAttention(nn.Module):
    """Queries, keys and values of all heads."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        size = config["hidden_size"]
        self._num_heads = config["num_attention_heads"]
        self._scale = (size // self._num_heads) ** -0.5
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)

    def __call__(self, states: mx.array, mask: Mask) -> mx.array:
        """What the tokens take from those they see."""
        queries, keys, values = (
            mx.unflatten(part(states), -1, (self._num_heads, -1)).swapaxes(1, 2)
            for part in (self.query, self.key, self.value)
        )
        attended = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=self._scale, mask=mask)
        return attended.swapaxes(1, 2).flatten(-2)


class Dense(nn.Module):
    """A dense layer, under the name that the weights give it."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.dense = nn.Linear(num_in, num_out)


class Residual(nn.Module):
    """A dense layer whose result is added to what came in, then normalized."""

    def __init__(self, config: dict[str, Any], num_in: int) -> None:
        super().__init__()
        self.dense = nn.Linear(num_in, config["hidden_size"])
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], eps=config["layer_norm_eps"])

    def __call__(self, states: mx.array, residual: mx.array) -> mx.array:
        """``[..., num_in]`` and ``[..., hidden_size]`` to ``[..., hidden_size]``."""
        return self.LayerNorm(self.dense(states) + residual)


def _check(config: dict[str, Any]) -> None:
    if (kind := config.get("position_embedding_type") or "absolute") != "absolute":
        raise ModelLoadFailed(f"its position_embedding_type is {kind!r}; only 'absolute' is known")
    if config.get("is_decoder"):
        raise ModelLoadFailed("its config.json says is_decoder: it is no encoder")
