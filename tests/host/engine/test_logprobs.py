from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import pytest

from mlxbridge.host.engine.choice.logprobs import Logprobs
from mlxbridge.host.engine.settings import GREEDY, Settings


def test_rows_that_ask_get_theirs_beside_all_tokens() -> None:
    rows = [GREEDY, Settings(logprobs=2), Settings(logprobs=0), GREEDY, Settings(logprobs=20)]
    logits = mx.log(mx.array([[0.1, 0.2, 0.3, 0.4]] * 5)) + 7
    logprobs = Logprobs(rows)
    tokens, found = logprobs.unpack(logprobs.pack(logits, mx.array([3, 2, 1, 0, 0], dtype=mx.uint32)), 5)
    assert tokens == [3, 2, 1, 0, 0]
    assert sorted(found) == [1, 2, 4]
    assert [math.exp(found[i].logprob) for i in (1, 2, 4)] == pytest.approx([0.3, 0.2, 0.1])
    assert [[token for token, _ in found[i].top] for i in (1, 2, 4)] == [[3, 2], [], [3, 2, 1, 0]]
    assert [math.exp(value) for _, value in found[4].top] == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_without_likeliest_ones_only_the_drawn_tokens_come() -> None:
    logprobs = Logprobs([Settings(logprobs=0)] * 2)
    packed = logprobs.pack(mx.zeros((2, 10)), mx.array([3, 4], dtype=mx.uint32))
    assert packed.size == 4
    tokens, found = logprobs.unpack(packed, 2)
    assert tokens == [3, 4]
    assert [found[i].logprob for i in (0, 1)] == pytest.approx([-math.log(10)] * 2)


def test_equals_are_in_the_order_of_the_vocabulary_and_the_impossible_left_out() -> None:
    logits = mx.array([[1.0, 5.0, -math.inf, 5.0, 1.0, 5.0]])
    for num_top in (2, 5, 6):
        logprobs = Logprobs([Settings(logprobs=num_top)])
        _, found = logprobs.unpack(logprobs.pack(logits, mx.array([1], dtype=mx.uint32)), 1)
        assert [token for token, _ in found[0].top] == [1, 3, 5, 0, 4][:num_top]


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_low_precision_logits_are_summed_in_float32(dtype: Any) -> None:
    logits = (3 * mx.random.normal((1, 5000), key=mx.random.key(1))).astype(dtype)
    logprobs = Logprobs([Settings(logprobs=1)])
    _, found = logprobs.unpack(logprobs.pack(logits, mx.array([11], dtype=mx.uint32)), 1)
    row: Any = logits[0].tolist()
    values = [math.exp(value) for value in row]
    assert found[0].logprob == pytest.approx(math.log(values[11] / sum(values)), abs=1e-5)
