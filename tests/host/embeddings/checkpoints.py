"""Model folders as they are published, with random weights that depend on their names alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

WORDS = ["cat", "dog", "sat", "on", "the", "mat", "query", "passage", ":", "a", "who", "where", "house"]
SPECIAL = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3}
VOCABULARY = {**SPECIAL, **{word: index for index, word in enumerate(WORDS, len(SPECIAL))}}
VOCABULARY_SIZE = 64
STEPS = "sentence_transformers.models."


def seeded(name: str, shape: Sequence[int]) -> NDArray[np.float32]:
    """A weight, large enough that attention tells tokens apart."""
    numbers = np.random.default_rng(crc32(name.encode())).standard_normal(shape)
    if len(shape) == 1:
        numbers = 0.2 * numbers + name.endswith("weight")
    else:
        numbers *= 1.5 / shape[-1] ** 0.5
    return np.asarray(numbers, np.float32)


def save_weights(path: Path, weights: Mapping[str, NDArray[Any]]) -> None:
    """Write safetensors; its own format, lest a test need torch or mlx for float16."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(weights), path)


def save_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def save_tokenizer(folder: Path, **limits: Any) -> None:
    """Words to ids, with [CLS] and [SEP] as BERT has them; the second text of a pair has type 1."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer: Any = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", SPECIAL["[CLS]"]), ("[SEP]", SPECIAL["[SEP]"])],
    )
    # As published: what was used in training, which callers must not be held to.
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    save_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **limits})


def save_steps(folder: Path, *, pooling: str | None, normalizes: bool = False) -> None:
    """``modules.json`` with its folders, without dense layers."""
    if pooling is None:
        return
    save_json(folder / "1_Pooling" / "config.json", {f"pooling_mode_{pooling}": True})
    steps = [("Transformer", ""), ("Pooling", "1_Pooling"), *([("Normalize", "2_Normalize")] * normalizes)]
    save_json(
        folder / "modules.json",
        [
            {"idx": index, "name": str(index), "path": path, "type": STEPS + kind}
            for index, (kind, path) in enumerate(steps)
        ],
    )


def save_model(
    folder: Path,
    reference: Mapping[str, Any],
    *,
    pooling: str | None = "mean_tokens",
    normalizes: bool = False,
    dtype: str = "float32",
    **changes: Any,
) -> Path:
    """A folder of the model that a reference was computed on; ``changes`` are those of its config."""
    weights = {name: seeded(name, shape).astype(dtype) for name, shape in reference["shapes"].items()}
    save_weights(folder / "model.safetensors", weights)
    save_json(folder / "config.json", {**reference["config"], **changes})
    save_tokenizer(folder)
    save_steps(folder, pooling=pooling, normalizes=normalizes)
    return folder
