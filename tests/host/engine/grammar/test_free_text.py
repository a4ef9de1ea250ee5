from __future__ import annotations

import numpy as np
import pytest

from mlxbridge.host.engine.grammar.compiler import Compiler
from mlxbridge.host.engine.grammar.constraint import Constraint
from mlxbridge.host.engine.grammar.free_text import FreeText
from mlxbridge.host.engine.grammar.marker import Marker
from mlxbridge.host.engine.grammar.response_format import Source
from tests.host.engine.grammar.test_reasoning import tokens_in

TOKENS = [b"a", b"b", b"<c>", b"</c>", b"<", b"c>", b"", b"c>x", b"a<", b"x<c>y"]
A, B, START, STOP, LESS, REST, END, REST_X, A_LESS, WHOLE_Y = range(10)
EVERY = {*range(10)} - {WHOLE_Y}


def mask(free: FreeText) -> set[int]:
    words = np.zeros(1, dtype=np.uint32)
    free.mask(words)
    return tokens_in(words)


@pytest.mark.parametrize("spelled", [(START,), (LESS, REST), (A_LESS, REST), (LESS, LESS, REST), (B, START)])
def test_marker_is_found_however_it_is_spelled(spelled: tuple[int, ...]) -> None:
    free = FreeText(Marker("<c>", TOKENS[:WHOLE_Y]))
    for token in spelled:
        assert free.is_going_on and free.take(token)
    assert not free.is_going_on and not free.is_free and not free.take(A)
    free.begin()
    assert free.is_going_on and free.is_free


def test_only_tokens_that_pass_the_marker_are_withheld() -> None:
    free = FreeText(Marker("<c>", TOKENS[:WHOLE_Y]))
    assert free.is_free
    free.take(A_LESS)
    assert not free.is_free and REST_X not in mask(free) and {REST, A, END} <= mask(free)
    free.take(A)
    assert free.is_free
    known = FreeText(Marker("<c>", TOKENS))
    assert not known.is_free and mask(known) >= EVERY and WHOLE_Y not in mask(known)


def test_end_of_the_marker_that_begins_like_its_own_end_may_pass_it() -> None:
    free = FreeText(Marker("abab", [b"aba", b"bab", b"b"]))
    assert free.is_free
    free.take(0)
    assert mask(free) & {0, 1, 2} == {0, 2}  # "abab" and then "ab"


def constrain(*, recurs: bool) -> Constraint:
    source = Source("grammar", "tools", 'start: "ab" "</c>"', behind="<c>", recurs=recurs)
    return Compiler(TOKENS, {START}).compile(source).constrain((END,), min_tokens=0)


def test_what_is_held_begins_behind_the_marker_each_time() -> None:
    constraint = constrain(recurs=True)
    for _ in range(2):
        for token in (A, LESS, REST):
            assert not constraint.asks_matcher
            constraint.take(token)
        for token in (A, B, STOP):
            assert constraint.asks_matcher and not constraint.is_free
            assert tokens_in(constraint.look()) - {LESS} == {token}
            constraint.take(token)
        assert END in tokens_in(constraint.look()) and not constraint.asks_matcher
    assert constraint.is_open


def test_answer_ends_behind_calls_that_nothing_closes() -> None:
    constraint = constrain(recurs=False)
    for token in (B, START, A, B, STOP):
        constraint.look()
        constraint.take(token)
    constraint.look()
    assert constraint.has_ended


def test_row_begins_again_within_a_call_and_behind_it() -> None:
    constraint = constrain(recurs=True)
    for token in (LESS, REST, A):
        constraint.take(token)
    for answer, allowed in (
        ([START], {A}),
        ([START, A, B], {STOP, LESS}),
        ([START, A, B, STOP, LESS, REST], {A}),
        ([B], {*range(11)} - {WHOLE_Y}),  # as many as ``tokens_in`` sees
    ):
        constraint.begin(answer)
        assert tokens_in(constraint.look()) == allowed
