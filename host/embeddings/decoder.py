"""Decoders as encoders: mlx_lm's Qwen 3 and Gemma 3, with attention as their configs say.

Qwen3-Embedding sees backwards only, as a language model does, and its last token has seen all (Zhang et al., 2025);
EmbeddingGemma sees both ways, most layers no further than half a window (Schechter Vera et al., 2025).
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models import gemma3_text, qwen3

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.embeddings import nn
from mlxbridge.host.embeddings.padded import Mask, Padded


class Decoder(nn.Module):
    """mlx_lm's layers, without what turns states into logits.

    Attributes:
        body: mlx_lm's ``Qwen3Model`` or ``Gemma3Model``, whose own masks and embedding scale are not used.
        hidden_size: of a token's state.
        max_tokens: of an input, as many as the model was made for.
        vocabulary_size: every token id is below it.
    """

    def __init__(self, body: Any, config: dict[str, Any], *, embedding_scale: float = 1.0) -> None:
        super().__init__()
        self.body = body
        self.hidden_size: int = config["hidden_size"]
        self.vocabulary_size: int = config["vocab_size"]
        self.max_tokens: int = config["max_position_embeddings"]
        self._embedding_scale = embedding_scale
        self._is_causal = is_causal(config)
        self._window: int | None = config.get("sliding_window")

    def __call__(self, batch: Padded) -> mx.array:
        """States of all tokens, ``[rows, width, hidden_size]``; those of padding mean nothing."""
        everywhere, near = self._masks(batch)
        states = self.body.embed_tokens(batch.token_ids)
        # Rounded to the states' own type, as transformers has it; mlx_lm rounds to bfloat16 in any case.
        states = states * mx.array(self._embedding_scale, states.dtype)
        for layer in self.body.layers:
            is_sliding = getattr(layer.self_attn, "is_sliding", False)
            states = layer(states, near if is_sliding else everywhere)
        normed: mx.array = self.body.norm(states)
        return normed

    def _masks(self, batch: Padded) -> tuple[Mask, Mask]:
        everywhere = batch.causal_mask() if self._is_causal else batch.bidirectional_mask()
        if self._window is None:
            return everywhere, everywhere
        # A causal window counts the token itself; a bidirectional one is the tokens on both sides.
        reach = self._window - 1 if self._is_causal else self._window // 2
        return everywhere, batch.window_mask(reach, is_causal=self._is_causal)


def is_causal(config: dict[str, Any]) -> bool:
    """Whether tokens see only those before them, which is so unless the config says otherwise."""
    return not config.get("use_bidirectional_attention") and config.get("is_causal") is not False


def qwen3_decoder(config: dict[str, Any]) -> Decoder:
    """A Qwen 3.

    Raises:
        ModelLoadFailed: it has sliding windows, which mlx_lm's Qwen 3 has not.
    """
    if config.get("use_sliding_window") or "sliding_attention" in (config.get("layer_types") or ()):
        raise ModelLoadFailed("its config.json asks for sliding windows, which mlx_lm's qwen3 does not have")
    arguments: Any = qwen3.ModelArgs
    facts = {**config, "sliding_window": None}
    return Decoder(qwen3.Qwen3Model(arguments.from_dict({"tie_word_embeddings": True, **facts})), facts)


def gemma3_decoder(config: dict[str, Any]) -> Decoder:
    """A Gemma 3 for text.

    Raises:
        ModelLoadFailed: its layers do not alternate as mlx_lm's do, or it caps attention scores.
    """
    if config.get("attn_logit_softcapping"):
        raise ModelLoadFailed("its config.json asks for attn_logit_softcapping, which is not known here")
    arguments: Any = gemma3_text.ModelArgs
    facts = {**config, **_rope(config), "sliding_window_pattern": _pattern(config)}
    args = arguments.from_dict(facts)
    body = gemma3_text.Gemma3Model(args)
    facts = {"max_position_embeddings": args.max_position_embeddings, **facts}
    facts = {"sliding_window": args.sliding_window, **facts}
    return Decoder(body, facts, embedding_scale=float(config["hidden_size"]) ** 0.5)


def _pattern(config: dict[str, Any]) -> int:
    """Layers from one that sees everything to the next."""
    types = config.get("layer_types")
    if types is None:
        return int(config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or 6)
    if "full_attention" not in types:
        return len(types) + 1
    pattern = int(types.index("full_attention")) + 1
    for index, kind in enumerate(types):
        if (kind == "full_attention") != ((index + 1) % pattern == 0):
            raise ModelLoadFailed("its layer_types do not alternate evenly, as mlx_lm's gemma3_text has it")
    return pattern


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """mlx_lm's names for what transformers 5 keeps in one table."""
    table = config.get("rope_parameters")
    if not isinstance(table, dict) or "full_attention" not in table:
        return {}
    everywhere, near = table["full_attention"], table["sliding_attention"]
    if near.get("rope_type", "default") != "default":
        raise ModelLoadFailed("its rotary positions are scaled in sliding windows, which is not known here")
    is_scaled = everywhere.get("rope_type", "default") != "default"
    return {
        "rope_theta": everywhere["rope_theta"],
        "rope_local_base_freq": near["rope_theta"],
        "rope_scaling": everywhere if is_scaled else None,
    }
