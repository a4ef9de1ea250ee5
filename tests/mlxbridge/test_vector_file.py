"""Files of vectors, read by numpy; and texts in portions."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from mlxbridge.commands.vector_file import npy_header, writing
from mlxbridge.commands.vectors import portions
from mlxbridge.errors import RemoteProtocolError, UsageError
from mlxbridge.types import Embeddings, InputUsage


def embeddings(
    count: int, dimensions: int = 3, dtype: Literal["float32", "float16"] = "float32"
) -> Embeddings:
    data = np.arange(count * dimensions, dtype=dtype).tobytes()
    usage = InputUsage(prompt_tokens=1, truncated=0)
    return Embeddings(shape=(count, dimensions), dtype=dtype, data=memoryview(data), model="m", usage=usage)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_numpy_reads_what_was_written_in_parts(tmp_path: Path, dtype: Literal["float32", "float16"]) -> None:
    path = tmp_path / "x.npy"
    with writing(str(path)) as writer:
        writer.add(embeddings(2, dtype=dtype))
        writer.add(embeddings(1, dtype=dtype))
    found = np.load(path)
    assert found.dtype == dtype
    assert found.tolist() == [[0, 1, 2], [3, 4, 5], [0, 1, 2]]


def test_no_vectors_are_an_array_too(tmp_path: Path) -> None:
    with writing(str(tmp_path / "x.npy")):
        pass
    assert np.load(tmp_path / "x.npy").shape == (0, 0)


def test_header_is_numpys_for_any_size() -> None:
    header = npy_header(10**15, 10**6, "float32")
    assert len(header) == 128 and header.endswith(b" \n")
    file = io.BytesIO(header)
    assert np.lib.format.read_magic(file) == (1, 0)
    assert np.lib.format.read_array_header_1_0(file) == ((10**15, 10**6), False, np.dtype("<f4"))


def test_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with writing(str(path)) as writer:
        writer.add(embeddings(2))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [[0, 1, 2], [3, 4, 5]]


def test_file_is_as_it_was_where_not_all_of_it_came(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_text("before")
    with pytest.raises(RemoteProtocolError, match="followed by"), writing(str(path)) as writer:
        writer.add(embeddings(2))
        writer.add(embeddings(2, dimensions=4))
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("x.npy", "before")]
    with pytest.raises(UsageError, match="must end with .npy or .jsonl"), writing(str(tmp_path / "x.csv")):
        pass


def test_nobody_elses_part_is_written_over(tmp_path: Path) -> None:
    other = tmp_path / "x.npy.part"
    other.write_text("half of another's")
    with writing(str(tmp_path / "x.npy")) as writer:
        writer.add(embeddings(2))
    assert other.read_text() == "half of another's"
    assert {file.name for file in tmp_path.iterdir()} == {"x.npy", "x.npy.part"}


def test_portions_keep_to_what_a_call_takes() -> None:
    assert [len(texts) for texts in portions(["x"] * 2500)] == [1024, 1024, 452]
    long = "é" * 300_000
    assert [len(texts) for texts in portions([long, "", long, long])] == [2, 1, 1]
    assert list(portions([])) == []
