"""What a folder must hold before mlx_lm can load it as a model; imports no mlx."""

from __future__ import annotations

import json
from pathlib import Path

WEIGHTS = "model*.safetensors"
ADAPTER_WEIGHTS = "adapters.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tiktoken.model", "*.tiktoken", "vocab.json", "vocab.txt")

_LFS_POINTER = b"version https://git-lfs"


def missing_parts(folder: Path) -> list[str]:
    """What keeps a folder from being a loadable model, as phrases for an error message.

    Looks at names and, of weight files, at the first bytes; a file that is present may still be corrupt.

    Returns:
        One phrase for each missing part; empty when nothing is missing.
    """
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not any(_has(folder, pattern) for pattern in TOKENIZERS):
        missing.append("a tokenizer (tokenizer.json or tokenizer.model)")
    return missing + _missing_weights(folder)


def _has(folder: Path, pattern: str) -> bool:
    return any(path.is_file() for path in folder.glob(pattern))


def _missing_weights(folder: Path) -> list[str]:
    shards = {path.name for path in folder.glob(WEIGHTS) if path.is_file()}
    wanted = _indexed_shards(folder)
    if not shards and not wanted:
        return [f"weights ({WEIGHTS})"]
    pointers = sorted(name for name in shards if _is_pointer(folder / name))
    return sorted(wanted - shards) + [
        f"the content of {name} (a Git LFS pointer; run git lfs pull)" for name in pointers
    ]


def _indexed_shards(folder: Path) -> set[str]:
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        return set(index["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # No index, or one that mlx_lm would not read either: it loads every shard it finds.
        return set()


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER
