from __future__ import annotations

import numpy as np
import pytest

from mlxbridge.host.engine.grammar.compiler import Compiler
from mlxbridge.host.engine.grammar.constraint import Constraint
from mlxbridge.host.engine.grammar.response_format import read_response_format

# The last one has no text: it ends answers.
TOKENS = [b"a", b"b", b"ab", b"c", b""]
A, B, AB, C, END = range(5)


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler(TOKENS)


def constrain(
    compiler: Compiler, pattern: str, end_ids: tuple[int, ...] = (END,), min_tokens: int = 0
) -> Constraint:
    grammar = compiler.compile(read_response_format({"type": "regex", "pattern": pattern}))
    return grammar.constrain(end_ids, min_tokens=min_tokens)


def allowed(constraint: Constraint) -> set[int]:
    words = constraint.look()
    return {token for token in range(32) if int(words[token // 32]) >> token % 32 & 1}


def test_end_can_be_drawn_where_the_answer_is_whole(compiler: Compiler) -> None:
    constraint = constrain(compiler, "ab*")
    assert allowed(constraint) == {A, AB}
    constraint.take(A)
    assert allowed(constraint) == {B, END}
    assert constraint.is_open


def test_answer_has_ended_where_nothing_may_follow(compiler: Compiler) -> None:
    constraint = constrain(compiler, "abc")
    for token in (AB, C):
        assert not constraint.has_ended
        constraint.take(token)
        allowed(constraint)
    assert constraint.has_ended and constraint.error is None and not constraint.is_open


def test_stop_tokens_end_where_the_end_may_come(compiler: Compiler) -> None:
    constraint = constrain(compiler, "ab*", end_ids=(END, C))
    assert allowed(constraint) == {A, AB}
    constraint.take(AB)
    assert allowed(constraint) == {B, C, END}


def test_end_waits_for_min_tokens_as_long_as_the_answer_can_go_on(compiler: Compiler) -> None:
    constraint = constrain(compiler, "ab{0,2}", min_tokens=3)
    constraint.take(A)
    assert allowed(constraint) == {B}
    constraint.take(B)
    assert allowed(constraint) == {B}
    constraint.take(B)
    allowed(constraint)
    assert constraint.has_ended


def test_answer_that_is_whole_too_early_ends(compiler: Compiler) -> None:
    constraint = constrain(compiler, "a", min_tokens=3)
    constraint.take(A)
    allowed(constraint)
    assert constraint.has_ended and constraint.error is None


def test_stop_token_that_is_text_comes_at_the_end_alone(compiler: Compiler) -> None:
    constraint = constrain(compiler, "(ab|c)+", end_ids=(END, AB))
    assert allowed(constraint) == {A, C}, "it would end an answer that is not whole"
    constraint.take(A)
    assert allowed(constraint) == {B}
    constraint.take(B)
    assert allowed(constraint) == {A, AB, C, END}
    assert allowed(constrain(compiler, "(ab|c)+")) == {A, AB, C}


def test_nothing_left_is_an_error_and_no_dead_end(compiler: Compiler) -> None:
    constraint = constrain(compiler, "c+", end_ids=(C,))
    assert allowed(constraint) == set(range(32)), "whatever comes is not read"
    assert constraint.error is not None and not constraint.has_ended


def test_character_that_no_token_spells_is_an_error(compiler: Compiler) -> None:
    constraint = constrain(compiler, "a(b|d)?d")
    constraint.take(A)
    assert allowed(constraint) == {B}
    constraint.take(B)
    allowed(constraint)
    assert constraint.error == "no token of the model's goes on here as it must"


def test_token_that_ends_the_answer_changes_nothing(compiler: Compiler) -> None:
    constraint = constrain(compiler, "ab*")
    constraint.take(A)
    before = allowed(constraint)
    constraint.take(END)
    assert allowed(constraint) == before


def test_begins_again_from_any_answer(compiler: Compiler) -> None:
    constraint = constrain(compiler, "(ab|c)*c")
    constraint.begin([])
    for token in (AB, C):
        constraint.take(token)
    here = allowed(constraint)
    constraint.begin([AB, C])
    assert allowed(constraint) == here
    constraint.begin([AB])  # the last one was never sent
    after_one = allowed(constraint)
    assert after_one == {A, AB, C}
    constraint.take(A)
    assert allowed(constraint) == {B}
    constraint.begin([])
    assert allowed(constraint) == {A, AB, C}


def test_begins_again_after_its_end(compiler: Compiler) -> None:
    constraint = constrain(compiler, "abc")
    constraint.take(AB)
    constraint.take(C)
    allowed(constraint)
    constraint.begin([AB])
    assert not constraint.has_ended and allowed(constraint) == {C}


def test_constraints_of_one_grammar_are_independent(compiler: Compiler) -> None:
    grammar = compiler.compile(read_response_format({"type": "regex", "pattern": "a+c|b+c"}))
    one, other = grammar.constrain((END,), min_tokens=0), grammar.constrain((END,), min_tokens=0)
    one.take(A)
    other.take(B)
    assert allowed(one) == {A, C} and allowed(other) == {B, C}


def test_mask_of_a_large_vocabulary_is_of_whole_words() -> None:
    tokens = [b"x"] + [b"%d" % number for number in range(95)] + [b""]
    constraint = constrain(Compiler(tokens), "[0-9]+", end_ids=(96,))
    constraint.take(1)
    words = constraint.look()
    assert words.shape == (4,) and words.dtype == np.uint32
    assert [token for token in range(128) if int(words[token // 32]) >> token % 32 & 1] == [*range(1, 97)]


def test_answer_goes_on_from_before_its_dead_end() -> None:
    constraint = constrain(Compiler([b"a", b"b", b""]), "[ab]{2}c", end_ids=(2,))
    for token in (0, 1):
        allowed(constraint)
        constraint.take(token)
    allowed(constraint)
    assert constraint.error is not None
    constraint.begin([0])
    assert allowed(constraint) == {0, 1} and constraint.error is None
    constraint.take(0)
    allowed(constraint)
    assert constraint.error is not None
