from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlxbridge.host.embeddings.padded import pad


def seen(
    mask: mx.array | str | None, rows: int, width: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    assert isinstance(mask, mx.array)
    return np.broadcast_to(np.array(mask), (rows, 1, width, width))[:, 0]


def test_rows_are_padded_on_the_right() -> None:
    batch = pad([[5, 6, 7], [8]], [[0, 1, 1], [0]])
    assert batch.token_ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch.type_ids.tolist() == [[0, 1, 1], [0, 0, 0]]
    assert batch.is_token().tolist() == [[True] * 3, [True, False, False]]
    assert batch.lengths.tolist() == [3, 1] and batch.width == 3 and batch.is_ragged


def test_rows_of_one_length_need_no_mask() -> None:
    batch = pad([[5, 6], [7, 8]])
    assert not batch.is_ragged and batch.bidirectional_mask() is None
    assert batch.window_mask(1, is_causal=False) is None
    assert batch.window_mask(1, is_causal=True) == "causal"


def test_bidirectional_mask_hides_padding() -> None:
    mask = seen(pad([[1] * 3, [1]]).bidirectional_mask(), 2, 3)
    assert mask[0].all()
    assert mask[1].tolist() == [[True, False, False]] * 3


@pytest.mark.parametrize("is_causal", [False, True])
def test_window_mask_is_what_it_says(is_causal: bool) -> None:
    lengths, reach, width = (7, 4), 2, 7
    mask = seen(pad([[1] * length for length in lengths]).window_mask(reach, is_causal=is_causal), 2, width)
    for row, length in enumerate(lengths):
        for query in range(length):
            first = max(0, query - reach)
            last = query if is_causal else min(query + reach, length - 1)
            assert np.flatnonzero(mask[row, query]).tolist() == list(range(first, last + 1))


def test_window_mask_hides_everything_from_nobody() -> None:
    mask = seen(pad([[1] * 20, [1]]).window_mask(2, is_causal=False), 2, 20)
    assert mask.any(axis=-1).all()
