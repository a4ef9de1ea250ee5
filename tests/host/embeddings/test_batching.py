from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxbridge.host.embeddings.batching import batch_around, batches, fits


@given(st.lists(st.integers(1, 600), max_size=60), st.integers(1, 1000))
def test_batches_hold_each_input_once_within_the_bound(lengths: list[int], max_tokens: int) -> None:
    found = list(batches(lengths, max_tokens))
    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= max_tokens


@given(st.lists(st.integers(1, 600), min_size=2, max_size=60), st.integers(1, 1000))
def test_batches_are_as_full_as_the_next_input_lets_them_be(lengths: list[int], max_tokens: int) -> None:
    found = list(batches(lengths, max_tokens))
    for batch, following in pairwise(found):
        assert not fits(len(batch) + 1, lengths[batch[0]], lengths[following[0]], max_tokens)


def test_short_inputs_do_not_stand_beside_long_ones_but_in_a_small_batch() -> None:
    assert list(batches([500, 400, 250, 249, 3], 10_000)) == [[0, 1, 2], [3], [4]]
    assert list(batches([60, 3, 2, 1], 10_000)) == [[0, 1, 2, 3]]


def test_batch_around_an_input_takes_shorter_ones_first_and_then_longer_ones() -> None:
    lengths = [400, 300, 250, 200, 190, 100]
    assert batch_around(lengths, 2, 1_000) == (2, 5)
    assert batch_around(lengths, 5, 1_000) == (3, 6)
    assert batch_around(lengths, 5, 1_000, first=4) == (4, 6)


def test_longest_come_first_and_equals_in_their_order() -> None:
    assert list(batches([2, 9, 2, 5], 10)) == [[1], [3, 0], [2]]


def test_long_inputs_share_no_batch_whatever_the_bound() -> None:
    assert list(batches([8192, 8192, 4096, 4096, 10], 1_000_000)) == [[0], [1], [2, 3], [4]]


@pytest.mark.parametrize("lengths", [[], [3]])
def test_few_inputs(lengths: list[int]) -> None:
    assert list(batches(lengths, 1)) == [[0]] * len(lengths)
