"""Attention over rows of unequal length: where the kernel is asked, what it is told, and, on a card, what it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any

import mlx.core as mx
import pytest

from mlxbridge.host.engine.attention import attention
from mlxbridge.host.engine.attention.attention_kernel import HEAD_SIZES, attend
from mlxbridge.host.engine.batch import BatchEngine
from mlxbridge.host.engine.loader import LoadedModel
from tests.host.engine.architectures import make_model
from tests.host.engine.test_architectures import expected, prompts
from tests.host.engine.tiny import Answers

needs_card = pytest.mark.skipif(not mx.cuda.is_available(), reason="needs an NVIDIA card")


def by_the_book(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    begin: mx.array,
    end: mx.array,
    longest: int,
    scale: float,
) -> mx.array:
    """What ``attend`` promises, row by row."""
    rows = []
    firsts: Any = begin.tolist()
    last: Any = end.item()
    for row, first in enumerate(firsts):
        places = slice(first, last)
        rows.append(
            mx.fast.scaled_dot_product_attention(
                queries[row : row + 1],
                keys[row : row + 1, :, places],
                values[row : row + 1, :, places],
                scale=scale,
            )
        )
    return mx.concatenate(rows)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The rows of each call of the kernel, which is not there: its promise is kept by other means."""
    calls: list[int] = []

    def answer(queries: mx.array, *others: Any) -> mx.array:
        calls.append(queries.shape[0])
        return by_the_book(queries, *others)

    class Card:
        type = mx.DeviceType.gpu

    monkeypatch.setattr(attention, "attend", answer)
    monkeypatch.setattr(attention, "HEAD_SIZES", (8,))
    monkeypatch.setattr(mx.cuda, "is_available", lambda: True)
    monkeypatch.setattr(mx, "default_device", Card)
    modules = {name: import_module(f"mlx_lm.models.{name}") for name in ("llama", "gemma3_text", "qwen3_moe")}
    originals = {name: vars(module)["scaled_dot_product_attention"] for name, module in modules.items()}
    yield calls
    for name, module in modules.items():
        vars(module)["scaled_dot_product_attention"] = originals[name]


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "qwen3_moe"])
def test_answers_are_the_same_with_the_kernel(loaded: LoadedModel, asked: list[int], name: str) -> None:
    model = make_model(name)
    answers = Answers(
        BatchEngine(replace(loaded, model=model, eos_ids=frozenset(), config={}, context_length=None))
    )
    texts = prompts(5, [30, 3, 17, 9, 40])
    asked.clear()
    for call, prompt in enumerate(texts):
        answers.submit(call, prompt=prompt, max_tokens=12)
        answers.step(2)
    answers.finish()
    assert [answers.tokens[call] for call in range(5)] == [expected(model, prompt, 12) for prompt in texts]
    assert set(asked) > {2, 3}, "the kernel was asked for several rows"
    assert 1 not in asked, "one row alone does without"


def test_what_the_kernel_cannot_do_goes_the_usual_way(
    loaded: LoadedModel, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("llama")
    monkeypatch.setattr(attention, "HEAD_SIZES", HEAD_SIZES)
    answers = Answers(
        BatchEngine(replace(loaded, model=model, eos_ids=frozenset(), config={}, context_length=None))
    )
    texts = prompts(6, [20, 4, 11])
    for call, prompt in enumerate(texts):
        answers.submit(call, prompt=prompt, max_tokens=8)
    answers.finish()
    assert not asked
    assert [answers.tokens[call] for call in range(3)] == [expected(model, prompt, 8) for prompt in texts]


@needs_card
@pytest.mark.parametrize("size", HEAD_SIZES)
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
@pytest.mark.parametrize(
    ("rows", "heads", "key_heads", "end"), [(5, 32, 8, 300), (2, 9, 3, 3000), (64, 16, 1, 40)]
)
def test_kernel_keeps_its_promise(
    size: int, dtype: mx.Dtype, rows: int, heads: int, key_heads: int, end: int
) -> None:
    queries = mx.random.normal((rows, heads, 1, size)).astype(dtype)
    keys, values = (mx.random.normal((rows, key_heads, end + 7, size)).astype(dtype) for _ in range(2))
    begin = mx.random.randint(0, end, (rows,)).astype(mx.int32)
    ends, scale = mx.array([end], dtype=mx.int32), size**-0.5
    got = attend(queries, keys, values, begin, ends, end, scale).astype(mx.float32)
    queries, keys, values = (part.astype(mx.float32) for part in (queries, keys, values))
    wanted = by_the_book(queries, keys, values, begin, ends, end, scale)
    tolerance = 1e-5 if dtype == mx.float32 else 2e-2
    assert mx.allclose(got, wanted, rtol=0, atol=tolerance).item()
