"""Vectors and rankings: their options, and what comes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Literal, TypedDict, overload

from mlxbridge.types.options import KeepAlive

VectorType = Literal["float32", "float16"]

EmbedInput = str | Sequence[int]
"""One input of ``embed``: a text, or token ids as they are, special tokens among them."""


class EmbedOptions(TypedDict, total=False):
    """What ``embed`` takes by name."""

    model: str | None
    """Its name at the host; not needed where the host serves one, or has a default."""
    prompt: str | None
    """Text to put before every text, such as an instruction; "" for none. Not before token ids."""
    prompt_name: str | None
    """The same, by its name in the model's files ("query", say); without both, the files' default, if they have one."""
    normalize: bool | None
    """Whether vectors have length 1, so that their dot product is their cosine; true if left out. None: as the model's
    files say."""
    dimensions: int | None
    """Keep so many first numbers of each vector, for models that were trained for it; all, or as the model's files say, if
    left out."""
    dtype: VectorType | None
    """Of the vectors; "float32" if left out."""
    truncate: bool | None
    """Cut the end off inputs over the model's limit; they are refused if left out."""
    keep_alive: KeepAlive | None
    """As for ``generate``."""
    timeout: float | None
    """Seconds for the whole call; the client's own if left out."""
    retry: int | None
    """How often the call is begun again if it ends with an error that is ``retryable``; the client's own if left out."""


class RerankOptions(TypedDict, total=False):
    """What ``rerank`` takes by name."""

    model: str | None
    """Its name at the host; not needed where the host serves one, or has a default."""
    top_n: int | None
    """Give so many of the best; all if left out."""
    activation: Literal["sigmoid", "none"] | None
    """Of the scores: "sigmoid" puts them between 0 and 1, "none" leaves the model's logits; as the model's files say if left
    out."""
    truncate: bool | None
    """Cut the end off the longer text of pairs over the model's limit; they are refused if left out."""
    keep_alive: KeepAlive | None
    """As for ``generate``."""
    timeout: float | None
    """Seconds for the whole call; the client's own if left out."""
    retry: int | None
    """How often the call is begun again if it ends with an error that is ``retryable``; the client's own if left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputUsage:
    """What it took to read the inputs of ``embed`` or ``rerank``; times are seconds as the host measured them.

    ``prompt_tokens`` are those of all inputs, special tokens among them; ``truncated`` is how many inputs lost their end;
    ``request_id`` is what the host calls the request.
    """

    prompt_tokens: int
    truncated: int = 0
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embeddings:
    """Vectors, one for each input and in their order, also if there is only one; a sequence of lists of floats.

    Attributes:
        shape: inputs and dimensions.
        dtype: "float32" or "float16".
        data: the numbers' bytes, vector after vector, little-endian: the memory that they were received into.
        model: that made them.
        usage: what it took.
    """

    shape: tuple[int, int]
    dtype: VectorType
    data: memoryview = field(repr=False)
    model: str
    usage: InputUsage

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, place: int) -> list[float]: ...

    @overload
    def __getitem__(self, place: slice) -> list[list[float]]: ...

    def __getitem__(self, place: int | slice) -> list[float] | list[list[float]]:
        """The vector of one input, or of several.

        Raises:
            IndexError: there is none.
        """
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        count, size = self.shape
        if not -count <= place < count:
            raise IndexError(f"there are {count} vectors, and no number {place}")
        row = Struct(f"<{size}{self._code}")
        return list(row.unpack_from(self.data, place % count * row.size))

    def __iter__(self) -> Iterator[list[float]]:
        count, size = self.shape
        rows = Struct(f"<{size}{self._code}").iter_unpack(self.data) if count and size else ((),) * count
        return map(list, rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """For ``numpy.asarray``: ``numpy()``, as another type if that is asked for."""
        array = self.numpy()
        if dtype is not None and dtype != array.dtype:
            if copy is False:
                raise ValueError(f"{self.dtype} as {dtype} takes a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def numpy(self) -> Any:
        """``numpy.ndarray`` of ``shape`` and ``dtype`` over the same memory; needs numpy.

        Raises:
            ImportError: it is not installed.
        """
        try:
            import numpy
        except ImportError as error:
            raise ImportError(
                "numpy is not installed: use tolist(), or pip install numpy", name="numpy"
            ) from error
        return numpy.frombuffer(self.data, "<f4" if self.dtype == "float32" else "<f2").reshape(self.shape)

    def tolist(self) -> list[list[float]]:
        """A list of floats for each input."""
        return list(self)

    @property
    def _code(self) -> str:
        """Of a number, for ``struct``."""
        return "f" if self.dtype == "float32" else "e"


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """One document and its score; ``index`` is its place among the documents that were given."""

    index: int
    score: float
    document: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Documents by how well they answer the query, the best first; iterates over ``RankedDocument``.

    Attributes:
        results: the documents.
        model: that scored them.
        usage: what it took.
    """

    results: tuple[RankedDocument, ...]
    model: str
    usage: InputUsage

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[RankedDocument]:
        return iter(self.results)

    def __getitem__(self, place: int) -> RankedDocument:
        return self.results[place]
