from __future__ import annotations

import numpy as np
import pytest

from mlxbridge.host.engine.grammar.bits import Words
from mlxbridge.host.engine.grammar.compiler import Compiler
from mlxbridge.host.engine.grammar.constraint import Constraint
from mlxbridge.host.engine.grammar.marker import Marker
from mlxbridge.host.engine.grammar.reasoning import Reasoning, ReasoningPrelude
from mlxbridge.host.engine.grammar.response_format import read_response_format

TOKENS = [b"a", b"b", b"<t>", b"</t>", b"</", b"t>", b"", b"<", b"call", b"t>x", b"a</t>b"]
A, B, OPEN, CLOSE, CLO, SE, END, LESS, CALL, SE_X, CLOSE_B = range(11)
OPENED = Reasoning(start_ids=(), is_due=False, end="</t>", avoided_ids=(CALL,))
MAYBE = Reasoning(start_ids=(OPEN,), is_due=False, end="</t>", avoided_ids=(CALL,))
DUE = Reasoning(start_ids=(LESS, OPEN), is_due=True, end="</t>", avoided_ids=(CALL,))
INSIDE = {A, B, OPEN, CLOSE, CLO, SE, LESS, SE_X}


def tokens_in(words: Words) -> set[int]:
    return {token for token in range(len(TOKENS)) if int(words[token // 32]) >> token % 32 & 1}


def mask(prelude: ReasoningPrelude) -> set[int]:
    words = np.zeros(1, dtype=np.uint32)
    prelude.mask(words)
    return tokens_in(words)


def begin(reasoning: Reasoning) -> ReasoningPrelude:
    return ReasoningPrelude(reasoning, Marker(reasoning.end, TOKENS), (END,), 1)


def test_reasoning_that_the_prompt_opened_goes_on_to_its_marker() -> None:
    prelude = begin(OPENED)
    for token in (A, B, A):
        assert prelude.is_going_on and mask(prelude) == INSIDE
        assert prelude.take(token)
    assert prelude.take(CLOSE) and not prelude.is_going_on
    assert not prelude.take(A)


def test_marker_may_be_spelled_with_other_tokens() -> None:
    prelude = begin(OPENED)
    for token in (CLO, A, CLO, SE):
        assert prelude.is_going_on and prelude.take(token)
    assert not prelude.is_going_on


def test_token_that_ends_the_marker_brings_nothing_behind_it() -> None:
    prelude = begin(OPENED)
    assert mask(prelude) == INSIDE  # among them no token that has the marker in it
    prelude.take(CLO)
    assert mask(prelude) == INSIDE - {SE_X}
    prelude.take(A)
    assert mask(prelude) == INSIDE
    for token in (LESS, CLO):
        prelude.take(token)
    assert mask(prelude) == INSIDE - {SE_X}


def test_reasoning_that_may_come_is_the_models_choice() -> None:
    prelude = begin(MAYBE)
    words = np.array([1 << A], dtype=np.uint32)
    prelude.add(words)
    assert not prelude.is_going_on and tokens_in(words) == {A, OPEN}
    assert prelude.take(OPEN) and prelude.is_going_on and mask(prelude) == INSIDE
    words = np.array([1 << A], dtype=np.uint32)
    prelude.add(words)
    assert tokens_in(words) == {A}
    prelude.begin()
    assert not prelude.take(A) and not prelude.is_going_on
    assert not prelude.take(OPEN), "it may open an answer, not interrupt one"


def test_reasoning_that_is_due_is_opened_token_by_token() -> None:
    prelude = begin(DUE)
    for token in (LESS, OPEN):
        assert prelude.is_going_on and mask(prelude) == {token}
        assert prelude.take(token)
    assert mask(prelude) == INSIDE


def constrain(reasoning: Reasoning) -> Constraint:
    grammar = Compiler(TOKENS).compile(read_response_format({"type": "regex", "pattern": "ab+"}))
    return grammar.constrain((END,), min_tokens=0, reasoning=reasoning)


@pytest.mark.parametrize(
    ("reasoning", "answer", "allowed"),
    [
        (OPENED, [], INSIDE),
        (OPENED, [B, B], INSIDE),
        (OPENED, [B, CLOSE], {A}),
        (OPENED, [B, CLOSE, A], {B}),
        (OPENED, [B, CLOSE, A, B], {B, END}),
        (MAYBE, [], {A, OPEN}),
        (MAYBE, [A], {B}),
        (MAYBE, [OPEN], INSIDE),
        (MAYBE, [OPEN, B, CLO, SE], {A}),
        (DUE, [], {LESS}),
        (DUE, [LESS], {OPEN}),
        (DUE, [LESS, OPEN, CLOSE], {A}),
    ],
)
def test_constraint_begins_where_the_prelude_ends(
    reasoning: Reasoning, answer: list[int], allowed: set[int]
) -> None:
    constraint = constrain(reasoning)
    for token in answer:
        constraint.look()
        constraint.take(token)
    assert tokens_in(constraint.look()) == allowed
    assert constraint.is_open
    again = constrain(reasoning)
    for token in (A, B, B, B, B):
        again.take(token)
    again.begin(answer)
    assert tokens_in(again.look()) == allowed, "as where a row begins again"
