"""ModernBERT (Warner et al., 2024): rotary positions, gated layers, and attention to neighbours in most layers.

Attributes are named as in the published weights (``layers.0.attn.Wqkv``).
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.embeddings import nn
from mlxbridge.host.embeddings.activations import activation
from mlxbridge.host.embeddings.padded import Mask, Padded


class ModernBert(nn.Module):
    """The encoder.

    Args:
        config: ``config.json``.

    Attributes:
        hidden_size: of a token's state.
        max_tokens: of an input, as many as the model was made for.
        vocabulary_size: every token id is below it.

    Raises:
        ModelLoadFailed: the config asks for positions that are not known here.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.hidden_size: int = config["hidden_size"]
        self.vocabulary_size: int = config["vocab_size"]
        self.max_tokens: int = config["max_position_embeddings"]
        self._reach = config.get("local_attention", 128) // 2
        self.embeddings = Embeddings(config)
        self.layers = [
            Layer(config, is_first=index == 0, is_global=is_global)
            for index, is_global in enumerate(_global_layers(config))
        ]
        self.final_norm = norm(config)

    def __call__(self, batch: Padded) -> mx.array:
        """States of all tokens, ``[rows, width, hidden_size]``; those of padding mean nothing."""
        everywhere = batch.bidirectional_mask()
        near = batch.window_mask(self._reach, is_causal=False)
        states = self.embeddings(batch.token_ids)
        for layer in self.layers:
            states = layer(states, everywhere if layer.is_global else near)
        return self.final_norm(states)


class Embeddings(nn.Module):
    """Tokens alone; positions come in attention."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.norm = norm(config)

    def __call__(self, token_ids: mx.array) -> mx.array:
        """``[rows, width]`` to ``[rows, width, hidden_size]``, normalized."""
        return self.norm(self.tok_embeddings(token_ids))


class Layer(nn.Module):
    """Attention, then a gated layer; each normalized before, and added to what came in."""

    def __init__(self, config: dict[str, Any], *, is_first: bool, is_global: bool) -> None:
        super().__init__()
        self.is_global = is_global
        # What the first layer gets is normalized already.
        self.attn_norm = nn.Identity() if is_first else norm(config)
        self.attn = Attention(config, _rope_base(config, is_global=is_global))
        self.mlp_norm = norm(config)
        self.mlp = Gated(config)

    def __call__(self, states: mx.array, mask: Mask) -> mx.array:
        """States of all tokens to their next states."""
        states = states + self.attn(self.attn_norm(states), mask)
        return states + self.mlp(self.mlp_norm(states))


class Attention(nn.Module):
    """Self-attention over rotated queries and keys."""

    def __init__(self, config: dict[str, Any], rope_base: float) -> None:
        super().__init__()
        size, has_bias = config["hidden_size"], config.get("attention_bias", False)
        self._num_heads = config["num_attention_heads"]
        self._head_size = size // self._num_heads
        self._rope_base = rope_base
        self.Wqkv = nn.Linear(size, 3 * size, bias=has_bias)
        self.Wo = nn.Linear(size, size, bias=has_bias)

    def __call__(self, states: mx.array, mask: Mask) -> mx.array:
        """What the tokens take from those they see."""
        parts = mx.unflatten(self.Wqkv(states), -1, (3, self._num_heads, self._head_size))
        queries, keys, values = (parts[:, :, index].swapaxes(1, 2) for index in range(3))
        attended = mx.fast.scaled_dot_product_attention(
            self._rotate(queries), self._rotate(keys), values, scale=self._head_size**-0.5, mask=mask
        )
        return self.Wo(attended.swapaxes(1, 2).flatten(-2))

    def _rotate(self, heads: mx.array) -> mx.array:
        return mx.fast.rope(
            heads, self._head_size, traditional=False, base=self._rope_base, scale=1.0, offset=0
        )


class Gated(nn.Module):
    """Two projections of the same, one through the activation, multiplied (GeGLU: Shazeer, 2020)."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        size, inner, has_bias = (
            config["hidden_size"],
            config["intermediate_size"],
            config.get("mlp_bias", False),
        )
        self.Wi = nn.Linear(size, 2 * inner, bias=has_bias)
        self.Wo = nn.Linear(inner, size, bias=has_bias)
        self._activate = activation(config.get("hidden_activation", "gelu"))

    def __call__(self, states: mx.array) -> mx.array:
        """Each token by itself."""
        activated, gate = mx.split(self.Wi(states), 2, axis=-1)
        return self.Wo(self._activate(activated) * gate)


def norm(config: dict[str, Any]) -> nn.LayerNorm:
    """A LayerNorm, all of which the config makes alike."""
    return nn.LayerNorm(
        config["hidden_size"], eps=config.get("norm_eps", 1e-5), bias=config.get("norm_bias", False)
    )


def _global_layers(config: dict[str, Any]) -> list[bool]:
    if (types := config.get("layer_types")) is not None:
        return [kind == "full_attention" for kind in types]
    every = config.get("global_attn_every_n_layers", 3)
    return [index % every == 0 for index in range(config["num_hidden_layers"])]


def _rope_base(config: dict[str, Any], *, is_global: bool) -> float:
    # transformers 5 has moved both bases into one table.
    table = config.get("rope_parameters") or {}
    facts = table.get("full_attention" if is_global else "sliding_attention") or {}
    if (kind := facts.get("rope_type", "default")) != "default" or config.get("rope_scaling"):
        raise ModelLoadFailed(f"its rotary positions are scaled ({kind!r}), which is not known here")
    if "rope_theta" in facts:
        return float(facts["rope_theta"])
    return float(
        config.get("global_rope_theta", 160_000.0) if is_global else config.get("local_rope_theta", 10_000.0)
    )
