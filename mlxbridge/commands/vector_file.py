"""Files of vectors, written as these come: ``.npy`` (numpy's own format, version 1.0) and ``.jsonl``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Protocol

from mlxbridge.errors import RemoteProtocolError, UsageError

if TYPE_CHECKING:
    from mlxbridge.types import Embeddings

_NPY_HEADER_BYTES = 128  # a multiple of 64, as the format asks for
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_NPY_TYPES = {"float32": "<f4", "float16": "<f2"}


class Writer(Protocol):
    """Takes the vectors of one call after the other."""

    def add(self, found: Embeddings) -> None:
        """Write the vectors of a call."""

    def finish(self) -> None:
        """Write what is left to write."""


class NpyWriter:
    """``numpy.load`` gives an array of shape (vectors, dimensions), of the dtype that they came in."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._num_rows = 0
        self._kind: tuple[int, str] | None = None  # dimensions and dtype
        file.write(bytes(_NPY_HEADER_BYTES))

    def add(self, found: Embeddings) -> None:
        """Write the vectors of a call.

        Raises:
            RemoteProtocolError: they are of another size or type than those before.
        """
        kind = found.shape[1], found.dtype
        if self._kind not in (None, kind):
            raise RemoteProtocolError(f"embed: vectors of {self._kind} were followed by some of {kind}")
        self._kind = kind
        self._num_rows += found.shape[0]
        self._file.write(found.data)

    def finish(self) -> None:
        """Write the header."""
        dimensions, dtype = self._kind or (0, "float32")
        self._file.seek(0)
        self._file.write(npy_header(self._num_rows, dimensions, dtype))


class JsonlWriter:
    """A JSON list of numbers a line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, found: Embeddings) -> None:
        """Write the vectors of a call."""
        for vector in found.tolist():
            self._file.write(json.dumps(vector).encode() + b"\n")

    def finish(self) -> None:
        """Nothing is left to write."""


def npy_header(num_rows: int, dimensions: int, dtype: str) -> bytes:
    """The first 128 bytes of a ``.npy`` file of a matrix (numpy.lib.format, version 1.0)."""
    facts = (
        f"{{'descr': '{_NPY_TYPES[dtype]}', 'fortran_order': False, 'shape': ({num_rows}, {dimensions}), }}"
    )
    num_bytes = _NPY_HEADER_BYTES - len(_NPY_MAGIC) - 2
    return _NPY_MAGIC + num_bytes.to_bytes(2, "little") + facts.ljust(num_bytes - 1).encode() + b"\n"


WRITERS: dict[str, Callable[[BinaryIO], Writer]] = {".npy": NpyWriter, ".jsonl": JsonlWriter}


@contextmanager
def writing(path: str) -> Iterator[Writer]:
    """A file that is there once all of it has been written, and else is as it was before.

    Raises:
        UsageError: its name ends with neither ``.npy`` nor ``.jsonl``.
        OSError: it cannot be written.
    """
    kind = os.path.splitext(path)[1].lower()
    if kind not in WRITERS:
        raise UsageError(f"--out {path}: its name must end with {' or '.join(WRITERS)}")
    part = f"{path}.{os.getpid()}.part"  # of this process alone
    with open(part, "wb") as file:
        try:
            writer = WRITERS[kind](file)
            yield writer
            writer.finish()
            file.close()
            os.replace(part, path)
        except BaseException:
            os.unlink(part)
            raise
