from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import pytest

from mlxbridge.host.engine.choice.likeliest import likeliest


def by_hand(logits: mx.array, number: int) -> list[list[int]]:
    rows: Any = logits.tolist()
    return [sorted(range(len(row)), key=lambda i: (-row[i], i))[:number] for row in rows]


@pytest.mark.parametrize("number", [1, 20, 64])
@pytest.mark.parametrize("size", [64, 65, 383, 2048, 2049, 5000])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_likeliest_are_the_greatest_in_order(number: int, size: int, dtype: Any) -> None:
    logits = (3 * mx.random.normal((3, size), key=mx.random.key(size))).astype(dtype)
    assert likeliest(logits, number).tolist() == by_hand(logits, number)


@pytest.mark.parametrize("step", [1.0, 4.0, 100.0])
def test_of_equals_the_lower_ids_come_first(step: float) -> None:
    logits = mx.round(3 * mx.random.normal((8, 5000), key=mx.random.key(1)) / step) * step
    assert likeliest(logits, 64).tolist() == by_hand(logits, 64)
    backwards = logits[:, ::-1]
    assert likeliest(backwards, 64).tolist() == by_hand(backwards, 64)


def test_likeliest_takes_the_impossible_and_the_whole_vocabulary() -> None:
    logits = mx.array([[0.0, -math.inf, 1.0, -0.0, -math.inf, -5.0, math.inf]])
    assert likeliest(logits, 7).tolist() == [[6, 2, 0, 3, 5, 1, 4]]
    assert likeliest(mx.full((1, 3000), -math.inf), 64).tolist() == [list(range(64))]


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000])  # an x86's own have the sign set
def test_row_without_numbers_names_tokens_of_the_vocabulary(bits: int) -> None:
    logits = mx.zeros((2, 3001))
    logits[0] = mx.array([bits], dtype=mx.uint32).view(mx.float32)
    found: Any = likeliest(logits, 64).tolist()
    assert all(0 <= token < 3001 for token in found[0])
    assert found[1] == list(range(64))
    few: Any = likeliest(logits[:, :50], 50).tolist()
    assert sorted(few[0]) == few[1] == list(range(50))
