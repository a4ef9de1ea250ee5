"""Encoders of real shapes with random weights, and short texts for them, made on the spot."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12},
    "bge-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "bge-large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
}
VOCABULARY = 4_000
_SYLLABLES = [start + end for start in "bdfgklmnprst" for end in ("a", "en", "i", "or", "us")]


def short_texts(count: int) -> list[str]:
    """Texts of 2 to 16 made-up words, common and rare ones, the same each time."""
    draw = random.Random(11)
    words = ["".join(draw.choices(_SYLLABLES, k=draw.randint(1, 4))) for _ in range(5_000)]
    shares = [1 / (rank + 10) for rank in range(len(words))]
    return [" ".join(draw.choices(words, shares, k=draw.randint(2, 16))) for _ in range(count)]


def make(shape: str, folder: Path, texts: Sequence[str], *, dtype: str) -> None:
    """Write a folder as sentence-transformers has them: a BERT of that shape that pools by the mean.

    Args:
        shape: one of ``SHAPES``.
        folder: to be made.
        texts: that its tokenizer learns its pieces of words from.
        dtype: of the weights, by MLX's name.
    """
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": VOCABULARY,
        "intermediate_size": 4 * SHAPES[shape]["hidden_size"],
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "pad_token_id": 0,
        **SHAPES[shape],
    }
    folder.mkdir(parents=True)
    _save(folder / "config.json", config)
    _save(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizerFast", "model_max_length": 512})
    _save(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    steps = [("Transformer", ""), ("Pooling", "1_Pooling")]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in steps]
    _save(folder / "modules.json", modules)
    _save_tokenizer(folder, texts)
    _save_weights(folder, config, dtype)


def _save(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def _save_tokenizer(folder: Path, texts: Sequence[str]) -> None:
    """BERT's: lower case, pieces of words, [CLS] before and [SEP] behind."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer: Any = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    tokenizer.save(str(folder / "tokenizer.json"))


def _save_weights(folder: Path, config: dict[str, Any], dtype: str) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from mlxbridge.host.embeddings.bert import Bert

    mx.random.seed(1)
    leaves: Any = tree_flatten(Bert(config).parameters())
    weights = {name: leaf.astype(getattr(mx, dtype)) for name, leaf in leaves}
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
