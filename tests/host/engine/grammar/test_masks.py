from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import pytest

from mlxbridge.host.engine.grammar.compiler import Compiler
from mlxbridge.host.engine.grammar.masks import Masks
from mlxbridge.host.engine.grammar.response_format import read_response_format
from mlxbridge.host.engine.rows import Job

# 70 tokens, so that neither bytes nor words come out even: "0" to "68", and one that ends answers.
TOKENS = [*(b"%d" % number for number in range(69)), b""]
END = 69


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler(TOKENS)


def job_with(compiler: Compiler, pattern: str) -> Job:
    grammar = compiler.compile(read_response_format({"type": "regex", "pattern": pattern}))
    return Job(prompt=[1], max_tokens=9, constraint=grammar.constrain((END,), min_tokens=0))


def left(logits: mx.array) -> list[set[int]]:
    rows: Any = logits.tolist()
    return [{token for token, value in enumerate(row) if value > -math.inf} for row in rows]


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_rows_without_a_constraint_are_left_alone(compiler: Compiler, dtype: mx.Dtype) -> None:
    jobs = [Job(prompt=[1], max_tokens=9), job_with(compiler, "[67]8?"), None, job_with(compiler, "3")]
    masks = Masks(jobs)
    masks.compute()
    logits = mx.random.normal((4, len(TOKENS))).astype(dtype)
    applied = masks.apply(mx.array(logits))
    assert applied.dtype == dtype
    every = set(range(len(TOKENS)))
    assert left(applied) == [every, {6, 7, 68}, every, {3}]
    for row, ids in enumerate(left(applied)):
        at = mx.array(sorted(ids))
        assert mx.array_equal(applied[row][at], logits[row][at]).item()


def test_rows_that_are_all_constrained(compiler: Compiler) -> None:
    jobs = [job_with(compiler, "1"), job_with(compiler, "[2]+")]
    masks = Masks(jobs)
    masks.compute()
    assert left(masks.apply(mx.zeros((2, len(TOKENS))))) == [{1}, {2, 22}]
    assert jobs[1].constraint is not None
    jobs[1].constraint.take(2)
    masks.compute()
    assert left(masks.apply(mx.zeros((2, len(TOKENS))))) == [{1}, {2, 22, END}]


def test_row_that_has_ended_may_draw_anything(compiler: Compiler) -> None:
    """What it draws is not read, and nothing but minus infinities would be no number in the end."""
    ended, stopped = job_with(compiler, "1"), job_with(compiler, "2")
    masks = Masks([ended, stopped])
    masks.compute()
    assert ended.constraint is not None and stopped.constraint is not None
    ended.constraint.take(1)
    stopped.ended = True
    masks.compute()
    assert ended.constraint.has_ended and not stopped.constraint.has_ended
    assert [len(ids) for ids in left(masks.apply(mx.zeros((2, len(TOKENS)))))] == [len(TOKENS)] * 2


def test_vocabulary_may_be_larger_than_the_tokenizers(compiler: Compiler) -> None:
    tokens = [*TOKENS, *(250 * [b""])]
    masks = Masks([job_with(Compiler(tokens), "[0-9]+")])
    masks.compute()
    assert left(masks.apply(mx.zeros((1, len(tokens))))) == [set(range(69))]
