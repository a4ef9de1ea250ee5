"""Models of a known shape with random weights, made on the spot: their speed is a real model's, their text is noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
    },
    "smollm-135m": {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
    },
}

_COMMON = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}


def make(shape: str, folder: Path) -> None:
    """Write a model folder that mlx_lm loads."""
    config = {**_COMMON, **SHAPES[shape]}
    folder.mkdir(parents=True)
    _save_weights(config, folder)
    _save_tokenizer(config["vocab_size"], folder)


def _save_weights(config: dict[str, Any], folder: Path) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_map
    from mlx_lm.models import llama
    from mlx_lm.utils import save_config

    mx.random.seed(7)
    arguments: Any = llama.ModelArgs
    model = llama.Model(arguments.from_dict(config))
    weights = tree_map(lambda leaf: leaf.astype(mx.bfloat16), model.parameters())
    mx.save_safetensors(
        str(folder / "model.safetensors"), dict(tree_flatten(weights)), metadata={"format": "mlx"}
    )
    save_config(config, folder / "config.json")


def _save_tokenizer(vocabulary: int, folder: Path) -> None:
    """Bytes, and made-up words up to the size of the vocabulary, so that every id the model gives has a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    pieces += [f"Ġw{number}" for number in range(vocabulary - len(pieces))]
    tokenizer = Tokenizer(models.BPE(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    make_fast: Any = PreTrainedTokenizerFast
    make_fast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
