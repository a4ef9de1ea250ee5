"""What can be said about a loaded model: size, precision, context, memory for each token."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.utils import get_total_parameters

from mlxbridge.host.engine.caches.footprint import Footprint
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.model_config import quantization, text_config
from mlxbridge.host.engine.text.answer_format import knows_reasoning, parser_name
from mlxbridge.host.engine.text.chat import keeps_reasoning, reasoning_choices
from mlxbridge.host.engine.text.detokenize import Vocabulary
from mlxbridge.host.engine.text.template import template_of


def facts(loaded: LoadedModel, footprint: Footprint) -> dict[str, Any]:
    """Facts about a model, in plain values that msgpack can carry.

    Returns:
        architecture, model_type, parameters (a quantized weight counts as the weight it stands for), bytes
        (of the weights), dtype (of the unquantized ones), quantization (bits and group_size, or None),
        context_length (tokens or None), vocabulary_size, layers, kv_bytes_per_token (that a token adds to
        the caches that grow without end), kv_bytes_fixed (that a row's full sliding windows and recurrent states take),
        tool_parser (mlx_lm's name for how the model calls tools, or None), reasoning (whether it has known markers),
        reasoning_choices (what a request may ask of it: [], [True] or [False, True]), keeps_reasoning (whether that of
        earlier answers has a place in a chat), tokenizer, see ``tokenizer_facts``.
    """
    config = loaded.config
    template = template_of(loaded.tokenizer, has_tools=False) if loaded.tokenizer.has_chat_template else None
    flat: Any = tree_flatten(loaded.model.parameters())
    leaves: list[mx.array] = [leaf for _, leaf in flat]
    return {
        "architecture": (config.get("architectures") or [config.get("model_type")])[0],
        "model_type": config.get("model_type"),
        "parameters": int(get_total_parameters(loaded.model)),  # type: ignore[no-untyped-call]
        "bytes": sum(leaf.nbytes for leaf in leaves),
        "dtype": _dtype(leaves),
        "quantization": quantization(config),
        "context_length": loaded.context_length,
        "vocabulary_size": loaded.vocabulary_size,
        "layers": _num_layers(loaded),
        "kv_bytes_per_token": footprint.token_bytes,
        "kv_bytes_fixed": footprint.most_fixed_bytes,
        "tool_parser": parser_name(loaded.tokenizer),
        "reasoning": knows_reasoning(loaded.tokenizer),
        "reasoning_choices": [] if template is None else reasoning_choices(loaded.tokenizer, template),
        "keeps_reasoning": template is not None and keeps_reasoning(template),
        "tokenizer": tokenizer_facts(loaded),
    }


def tokenizer_facts(loaded: LoadedModel) -> dict[str, Any]:
    """What programs ask tokenizers for, by the names that Hugging Face's have for it.

    Returns:
        bos_token, eos_token, pad_token, unk_token and their ids (None where there is none), eos_token_ids (that end an
        answer), size (tokens, added ones too), has_chat_template, and kind: "bytes" (byte-level BPE), "sentencepiece" (with
        byte fallback) or None.
    """
    tokenizer = loaded.tokenizer
    names = [f"{name}_token{end}" for name in ("bos", "eos", "pad", "unk") for end in ("", "_id")]
    return {
        **{name: getattr(tokenizer, name, None) for name in names},
        "eos_token_ids": sorted(loaded.eos_ids),
        "size": len(tokenizer),
        "has_chat_template": bool(tokenizer.has_chat_template),
        "kind": Vocabulary(tokenizer).kind,
    }


def _dtype(leaves: list[mx.array]) -> str | None:
    floats = [leaf for leaf in leaves if mx.issubdtype(leaf.dtype, mx.floating)]
    if not floats:
        return None
    return str(max(floats, key=lambda leaf: leaf.size).dtype).removeprefix("mlx.core.")


def _num_layers(loaded: LoadedModel) -> int | None:
    layers = getattr(loaded.model, "layers", None)
    return len(layers) if layers is not None else text_config(loaded.config).get("num_hidden_layers")
