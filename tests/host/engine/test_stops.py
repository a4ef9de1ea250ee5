from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxbridge.host.engine.text.stops import StopMatcher

ALPHABET = "abc"
STOPS = st.lists(st.text(ALPHABET, min_size=1, max_size=5), max_size=5)
PIECES = st.lists(st.text(ALPHABET, max_size=7), max_size=12)


def cut_naively(text: str, stops: list[str]) -> tuple[str, str | None]:
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, None


def held_naively(text: str, stops: list[str]) -> int:
    return max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)


@given(PIECES, STOPS)
def test_matcher_any_pieces_equal_naive_cut(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    shown = "".join(matcher.push(piece) for piece in pieces) + matcher.flush()
    assert (shown, matcher.matched) == cut_naively("".join(pieces), stops)


@given(PIECES, STOPS)
def test_matcher_holds_no_more_than_a_possible_stop(pieces: list[str], stops: list[str]) -> None:
    matcher, sent, shown = StopMatcher(stops), "", ""
    for piece in pieces:
        sent += piece
        shown += matcher.push(piece)
        if matcher.matched is not None:
            return
        assert len(sent) - len(shown) == held_naively(sent, stops)


@pytest.mark.parametrize(
    ("stops", "pieces", "shown", "matched"),
    [
        ([], ["abc", "", "d"], "abcd", None),
        (["er: w"], ["the us", "er", ": ", "what"], "the us", "er: w"),
        (["#\n"], ["result ", "#"], "result #", None),
        (["bc", "abcd"], ["xabcd"], "xa", "bc"),
        (["c", "abc"], ["xab", "c"], "x", "abc"),
        (["日本"], ["こ日", "本語"], "こ", "日本"),
        (["aab"], ["aaaaaaaab"], "aaaaaa", "aab"),
    ],
)
def test_matcher_examples(stops: list[str], pieces: list[str], shown: str, matched: str | None) -> None:
    matcher = StopMatcher(stops)
    assert "".join(map(matcher.push, pieces)) + matcher.flush() == shown
    assert matcher.matched == matched


def test_matcher_after_a_match_shows_nothing() -> None:
    matcher = StopMatcher(["x"])
    assert [matcher.push("axb"), matcher.push("c"), matcher.flush()] == ["a", "", ""]


def test_matcher_work_is_linear() -> None:
    """Counted in looks at a state's edges, in the text that makes it go back and forth the most."""
    num_looks = 0

    class Edges(dict[str, int]):
        def __contains__(self, char: object) -> bool:
            nonlocal num_looks
            num_looks += 1
            return super().__contains__(char)

    matcher = StopMatcher(["a" * 1000 + "b"])
    assert matcher._automaton is not None
    matcher._automaton._next = [Edges(edges) for edges in matcher._automaton._next]
    for _ in range(2500):
        matcher.push("aaaa")
    for _ in range(10):
        matcher.push("a" * 999 + "c")
    assert matcher.matched is None
    assert num_looks <= 2 * (
        4 * 2500 + 10 * 1000
    )  # every look reads a character or makes the state less deep
