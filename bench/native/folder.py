"""Model folders with random weights, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.shapes import config_of, make_llama


def make(shape: str, folder: Path) -> None:
    """Write a model folder that mlx_lm loads, in bfloat16."""
    config = config_of(shape)
    folder.mkdir(parents=True)
    _save_weights(config, folder)
    save_tokenizer(config["vocab_size"], folder)


def _save_weights(config: dict[str, Any], folder: Path) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import save_config

    weights = dict(tree_flatten(make_llama(config).parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    save_config(config, folder / "config.json")


def save_tokenizer(vocabulary: int, folder: Path) -> None:
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
