"""What a folder must hold before it can be loaded as a model, and what is wrong with its weights; imports no mlx."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

WEIGHTS = "model*.safetensors"
ADAPTER_WEIGHTS = "adapters.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tiktoken.model", "*.tiktoken", "vocab.json", "vocab.txt")

_HEADER_SIZE = struct.Struct("<Q")
_MOST_HEADER_BYTES = 100_000_000  # as safetensors itself has it
_MOST_NAMES = 3
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


def read_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: its size, a little-endian u64, comes first, then the header, a JSON map
    (https://github.com/huggingface/safetensors#format).

    Raises:
        OSError, ValueError, struct.error: it cannot be read, or is damaged.
    """
    return _read_header(path)[0]


def damaged_weights(folder: Path) -> list[str]:
    """Names of the weight files that have no header, or fewer bytes than it tells of."""
    return sorted(path.name for path in folder.glob(WEIGHTS) if not is_whole(path))


def is_whole(path: Path) -> bool:
    """Whether a safetensors file has a header, and all the bytes that it tells of."""
    try:
        header, data_at = _read_header(path)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return bool(path.stat().st_size >= data_at + max(ends, default=0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return False


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header, and where the data begins, in bytes."""
    with path.open("rb") as file:
        (size,) = _HEADER_SIZE.unpack(file.read(_HEADER_SIZE.size))
        if size > _MOST_HEADER_BYTES:
            raise ValueError(f"its header has {size} bytes")
        return json.loads(file.read(size)), _HEADER_SIZE.size + size


def describe_misfit(error: ValueError) -> str:
    """What MLX says of weights that are not those of a model, with the first names of many."""
    lines = str(error).strip().splitlines()
    told = " ".join(line.strip() for line in lines[: 1 + _MOST_NAMES]).rstrip(".,")
    return told + ", …" * (len(lines) > 1 + _MOST_NAMES)


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
