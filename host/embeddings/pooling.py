"""From a state for each token to one vector for each input."""

from __future__ import annotations

from typing import Literal, get_args

import mlx.core as mx

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.embeddings.padded import Padded

Pooling = Literal["mean", "cls", "lasttoken"]
"""The names that sentence-transformers has for them."""


def as_pooling(name: str) -> Pooling:
    """A name as what it is.

    Raises:
        ModelLoadFailed: it is no pooling that is known here.
    """
    for known in get_args(Pooling):
        if name == known:
            pooling: Pooling = known
            return pooling
    raise ModelLoadFailed(f"it pools by {name!r}; known are {', '.join(get_args(Pooling))}")


def pool(states: mx.array, batch: Padded, pooling: Pooling) -> mx.array:
    """One vector for each row: the mean of its tokens' states, its first state, or its last.

    Args:
        states: ``[rows, width, size]``; those of padding may be anything, NaN too.
        batch: what they are states of.
        pooling: which.

    Returns:
        ``[rows, size]`` float32; sums over many tokens need the precision, whatever the states have.
    """
    if pooling == "cls":
        return states[:, 0].astype(mx.float32)
    if pooling == "lasttoken":
        last = (batch.lengths - 1)[:, None, None]
        return mx.take_along_axis(states, last, axis=1)[:, 0].astype(mx.float32)
    states = mx.where(batch.is_token()[..., None], states.astype(mx.float32), 0.0)
    return states.sum(axis=1) / batch.lengths[:, None]
