from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.models.store.headers import Tensor, count_parameters, main_dtype, read_tensors


def write(path: Path, tensors: dict[str, tuple[str, list[int], int]]) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


def test_tensors_of_all_shards_are_read_from_their_headers(tmp_path: Path) -> None:
    write(tmp_path / "model-00001-of-00002.safetensors", {"a.weight": ("BF16", [2, 3], 12)})
    write(tmp_path / "model-00002-of-00002.safetensors", {"b": ("F32", [4], 16)})
    write(tmp_path / "adapters.safetensors", {"c": ("F32", [4], 16)})
    assert read_tensors(tmp_path) == {"a.weight": Tensor("BF16", (2, 3), 12), "b": Tensor("F32", (4,), 16)}


def test_quantized_weight_counts_as_the_one_it_stands_for() -> None:
    # 4 bits in groups of 64: a 128 x 256 weight; 8 bits in groups of 32: an 8 x 64 one.
    tensors = {
        "a.weight": Tensor("U32", (128, 32), 16384),
        "a.scales": Tensor("BF16", (128, 4), 1024),
        "a.biases": Tensor("BF16", (128, 4), 1024),
        "a.bias": Tensor("BF16", (128,), 256),
        "b.weight": Tensor("U32", (8, 16), 512),
        "b.scales": Tensor("BF16", (8, 2), 32),
        "b.biases": Tensor("BF16", (8, 2), 32),
        "norm.weight": Tensor("BF16", (256,), 512),
    }
    config = {"quantization": {"bits": 4, "group_size": 64, "b": {"bits": 8, "group_size": 32}}}
    assert count_parameters(tensors, config) == 128 * 256 + 128 + 8 * 64 + 256
    assert main_dtype(tensors) == "bfloat16"
    assert main_dtype({"x": Tensor("U32", (1,), 4)}) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 1 << 60),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 9) + b'{"a": {}}',
    ],
)
def test_damaged_file_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(ModelLoadFailed, match=r"model\.safetensors is damaged"):
        read_tensors(tmp_path)
