"""Log-probabilities of drawn tokens and of the likeliest ones, for the rows that ask, brought over with the tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import mlx.core as mx

from mlxbridge.host.engine.choice.likeliest import likeliest
from mlxbridge.host.engine.settings import Settings


class Likelihoods(NamedTuple):
    """The natural logarithm of the drawn token's probability, and the likeliest tokens with theirs, best first."""

    logprob: float
    top: list[tuple[int, float]]


class Logprobs:
    """What some of a fixed set of rows want to know; not made where none does."""

    def __init__(self, rows: Sequence[Settings]) -> None:
        self._asked = [(place, row.logprobs) for place, row in enumerate(rows) if row.logprobs is not None]
        self._places = mx.array([place for place, _ in self._asked], dtype=mx.int32)
        self._num_top = max((num_top for _, num_top in self._asked), default=0)

    @staticmethod
    def is_used(row: Settings) -> bool:
        """Whether a row asks."""
        return row.logprobs is not None

    def pack(self, logits: mx.array, tokens: mx.array) -> mx.array:
        """One array to read instead of two.

        Args:
            logits: float array (rows, vocabulary size), as the tokens were drawn from them but unfiltered.
            tokens: uint32 array (rows,), the tokens that were drawn.

        Returns:
            uint32 array for ``unpack``, not evaluated.
        """
        chosen = logits[self._places].astype(mx.float32)
        chosen = chosen - mx.logsumexp(chosen, axis=-1, keepdims=True)
        drawn = mx.take_along_axis(chosen, tokens[self._places][:, None], axis=-1)
        parts = [tokens, _bits(drawn)]
        if self._num_top:
            ids = likeliest(chosen, min(self._num_top, logits.shape[1]))
            parts += [_bits(ids), _bits(mx.take_along_axis(chosen, ids, axis=-1))]
        return mx.concatenate(parts)

    def unpack(self, packed: mx.array, num_rows: int) -> tuple[list[int], dict[int, Likelihoods]]:
        """Wait for what ``pack`` made; one copy.

        Returns:
            The tokens of all rows, and by place what the rows that asked want.
        """
        words = memoryview(packed)  # type: ignore[arg-type]
        num_asked = len(self._asked)
        tokens: list[int] = words[:num_rows].tolist()
        drawn = _floats(words[num_rows : num_rows + num_asked])
        rest = words[num_rows + num_asked :]
        ids, values = rest[: len(rest) // 2].tolist(), _floats(rest[len(rest) // 2 :])
        num_top = len(ids) // num_asked
        found = {}
        for index, (place, num_wanted) in enumerate(self._asked):
            part = slice(index * num_top, (index + 1) * num_top)
            top = list(zip(ids[part][:num_wanted], values[part], strict=False))
            found[place] = Likelihoods(drawn[index], [entry for entry in top if entry[1] > -math.inf])
        return tokens, found


def _bits(values: mx.array) -> mx.array:
    return values.flatten().view(mx.uint32)


def _floats(words: memoryview) -> list[float]:
    floats: list[Any] = words.cast("B").cast("f").tolist()
    return floats
