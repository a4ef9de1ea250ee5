from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlxbridge.errors import ModelLoadFailed
from mlxbridge.host.embeddings.padded import pad
from mlxbridge.host.embeddings.pooling import Pooling, as_pooling, pool

BATCH = pad([[1, 1, 1], [1]])
STATES = mx.array(
    [[[1.0, 2.0], [3.0, 4.0], [8.0, 0.0]], [[5.0, 6.0], [float("nan")] * 2, [float("inf")] * 2]]
)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("mean", [[4, 2], [5, 6]]), ("cls", [[1, 2], [5, 6]]), ("lasttoken", [[8, 0], [5, 6]])],
)
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_pool_never_looks_at_padding(pooling: Pooling, expected: list[list[float]], dtype: mx.Dtype) -> None:
    vectors = pool(STATES.astype(dtype), BATCH, pooling)
    assert vectors.dtype == mx.float32 and vectors.tolist() == expected


def test_mean_of_many_half_precision_states_is_exact() -> None:
    """As float16 the sum would be infinite, as bfloat16 it would stop growing."""
    batch = pad([[1] * 4096])
    for dtype in (mx.float16, mx.bfloat16):
        states = mx.full((1, 4096, 1), 100.5, dtype=dtype)
        np.testing.assert_allclose(np.array(pool(states, batch, "mean")), 100.5, rtol=1e-5)


def test_unknown_pooling_is_refused() -> None:
    with pytest.raises(ModelLoadFailed, match=r"'mean\+max'; known are mean, cls, lasttoken"):
        as_pooling("mean+max")
