from __future__ import annotations

from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxbridge.host.engine.stops import StopMatcher

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
    def seconds(num_chars: int) -> float:
        matcher = StopMatcher(["a" * 1000 + "b"])
        start = perf_counter()
        for _ in range(num_chars // 4):
            matcher.push("aaaa")
        return perf_counter() - start

    seconds(4000)
    # Eight times the text; quadratic work would take 64 times as long.
    assert seconds(80_000) < 24 * max(seconds(10_000), 1e-3)
