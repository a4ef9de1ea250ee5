"""What models of every kind write, told apart: the same however it is cut, nothing lost, nothing held back for long."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxbridge.host.engine.text.answer_format import NORMAL, TOOL, AnswerFormat, knows_reasoning, parser_name
from mlxbridge.host.engine.text.answer_parts import AnswerParts
from mlxbridge.host.engine.text.detokenize import Vocabulary
from mlxbridge.host.engine.text.tool_calls import CallReader
from mlxbridge.types import ToolCall
from tests.host.engine.families import (
    FAMILIES,
    HERMES,
    KIMI,
    MISTRAL,
    PYTHONIC,
    THOUGHT,
    TOOLS,
    Family,
    Recording,
    expected_calls,
)

EVERY = [
    pytest.param(family, recording, id=f"{family.name} {number}")
    for family in FAMILIES
    for number, recording in enumerate(family.recordings)
]
Part = str | ToolCall


@cache
def tokenizer_of(family: Family) -> Any:
    return family.tokenizer(Path(mkdtemp(prefix="mb-")))


@cache
def format_of(family: Family, *, with_calls: bool = True) -> AnswerFormat:
    return AnswerFormat(tokenizer_of(family), with_calls=with_calls)


def begin(family: Family, *, is_open: bool = False, is_parallel: bool = True) -> AnswerParts:
    reader = CallReader(tokenizer_of(family).tool_parser, TOOLS)
    return AnswerParts(format_of(family), reader, is_reasoning=is_open, is_parallel=is_parallel)


def note(answer: AnswerParts, family: Family, written: str) -> None:
    """Take note of a text, and of the special tokens in it."""
    vocabulary = Vocabulary(tokenizer_of(family), shows_special=True)
    names = [re.escape(vocabulary.name_of(token)) for token in vocabulary.special]
    for piece in re.split(f"({'|'.join(names)})", written):
        is_special = any(re.fullmatch(name, piece) for name in names)
        answer.note(piece, num_special=len(piece) if is_special else 0)


def tell(answer: AnswerParts, pieces: Sequence[str]) -> tuple[str, list[Part]]:
    told = [*map(answer.push, pieces), answer.flush()]
    return "".join(text for text, _ in told), [part for _, parts in told for part in parts]


def check(recording: Recording, text: str, parts: list[Part]) -> None:
    calls = [part for part in parts if isinstance(part, ToolCall)]
    assert text == recording.text
    assert "".join(part for part in parts if isinstance(part, str)) == recording.reasoning
    assert calls == expected_calls(recording, calls)
    assert all(call.malformed or re.fullmatch(r"[A-Za-z0-9]{9}|functions\.\w+:\d", call.id) for call in calls)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_mlx_lm_knows_the_family(family: Family) -> None:
    tokenizer = tokenizer_of(family)
    assert parser_name(tokenizer) == family.parser and tokenizer.has_tool_calling
    assert knows_reasoning(tokenizer) is any(recording.reasoning for recording in family.recordings)


@pytest.mark.parametrize(("family", "recording"), EVERY)
def test_recording_cut_anywhere_comes_to_the_same(family: Family, recording: Recording) -> None:
    written = recording.written
    for cut in range(len(written) + 1):
        answer = begin(family, is_open=recording.is_open)
        note(answer, family, written)
        check(recording, *tell(answer, [written[:cut], written[cut:]]))


@pytest.mark.parametrize(("family", "recording"), EVERY)
def test_recording_character_by_character_comes_to_the_same(family: Family, recording: Recording) -> None:
    answer = begin(family, is_open=recording.is_open)
    note(answer, family, recording.written)
    check(recording, *tell(answer, list(recording.written)))


@pytest.mark.parametrize(("family", "recording"), EVERY)
def test_recording_token_by_token_comes_to_the_same(family: Family, recording: Recording) -> None:
    tokenizer = tokenizer_of(family)
    vocabulary = Vocabulary(tokenizer, shows_special=True)
    detokenizer = vocabulary.detokenizer()
    answer = begin(family, is_open=recording.is_open)
    pieces = []
    for token in tokenizer.encode(recording.written, add_special_tokens=False):
        pieces.append(detokenizer.push(token))
        answer.note(
            pieces[-1],
            num_special=len(vocabulary.name_of(token)) if token in vocabulary.special else 0,
        )
    assert "".join(pieces) + detokenizer.flush() == recording.written
    check(recording, *tell(answer, pieces))


@given(data=st.data())
def test_any_pieces_of_any_recording_come_to_the_same(data: st.DataObject) -> None:
    family = data.draw(st.sampled_from(FAMILIES))
    recording = data.draw(st.sampled_from(family.recordings))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(recording.written)), max_size=12)))
    edges = [0, *cuts, len(recording.written)]
    answer = begin(family, is_open=recording.is_open)
    note(answer, family, recording.written)
    check(recording, *tell(answer, [recording.written[a:b] for a, b in zip(edges, edges[1:], strict=False)]))


ALPHABET = ["<", "<th", "ink>", "</think>", "<tool_call>", "</tool", "_call>", '{"name": "now"}', "x", " "]


@given(pieces=st.lists(st.sampled_from(ALPHABET), max_size=15), is_open=st.booleans())
def test_no_more_is_held_back_than_may_begin_a_marker(pieces: list[str], is_open: bool) -> None:
    answer = begin(HERMES, is_open=is_open)
    for number, piece in enumerate(pieces, start=1):
        answer.push(piece)
        held, markers = answer._held, format_of(HERMES).markers(answer._state).targets
        assert not held or any(marker.startswith(held) and marker != held for marker in markers)
        assert answer._num_told + len(held) == len("".join(pieces[:number]))


@given(pieces=st.lists(st.sampled_from(ALPHABET), max_size=15), is_open=st.booleans())
def test_nothing_is_lost_of_whatever_a_model_writes(pieces: list[str], is_open: bool) -> None:
    """Behind each piece something that is in no marker, so that no call can be read."""
    answer = begin(HERMES, is_open=is_open)
    text, parts = tell(answer, [f"{piece}«{number}»" for number, piece in enumerate(pieces)])
    shown = [text, *(part if isinstance(part, str) else part.text for part in parts)]
    found = [int(number) for some in shown for number in re.findall(r"«(\d+)»", some)]
    assert sorted(found) == list(range(len(pieces)))


def test_rows_of_a_stream_are_exact() -> None:
    answer = begin(HERMES)
    call = '{"name": "now", "arguments": {"a": [1, "b"]}}'
    rows = [
        ("<thi", "", []),
        ("nk>Let", "", ["Let"]),
        (" me <", "", [" me "]),
        ("b></", "", ["<b>"]),
        ("think", "", []),
        (">Well", "Well", []),
        (", <tool_call", ", ", []),
        (">" + call[:9], "", []),
        (call[9:] + "</", "", []),
        ("x", "", []),
    ]
    for piece, text, parts in rows:
        assert answer.push(piece) == (text, parts)
    _, (malformed,) = answer.push("</tool_call> <tool_call>" + call)
    assert isinstance(malformed, ToolCall) and malformed.malformed
    assert malformed.text == f"<tool_call>{call}</x</tool_call>"
    text, (found,) = answer.push("</tool_call>done<")
    assert text == "done" and isinstance(found, ToolCall)
    assert (found.index, found.name, found.arguments) == (1, "now", {"a": [1, "b"]})
    assert found.text == '{"a": [1, "b"]}'
    assert answer.flush() == ("<", [])


def test_calls_of_a_section_come_one_by_one() -> None:
    answer = begin(KIMI)
    start = "<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}"
    assert answer.push(start) == ("", [])
    _, (first,) = answer.push("<|tool_call_end|><|tool_call_begin|>functions.now:1")
    assert isinstance(first, ToolCall) and first.id == "functions.now:0"
    assert answer.num_calls == 1


def test_next_call_ends_one_that_has_no_end() -> None:
    answer = begin(MISTRAL)
    assert answer.push("[TOOL_CALLS]now[ARGS]{}[TOOL_CALL") == ("", [])
    _, (first,) = answer.push("S]now[ARGS]{")
    assert isinstance(first, ToolCall) and (first.name, first.malformed) == ("now", False)


@pytest.mark.parametrize(
    ("family", "written"),
    [
        (HERMES, "".join(HERMES.recordings[0].written)),
        (KIMI, KIMI.recordings[0].written),
        (PYTHONIC, PYTHONIC.recordings[0].written),
        (MISTRAL, MISTRAL.recordings[0].written),
        (MISTRAL, MISTRAL.recordings[1].written),
    ],
)
def test_answer_of_one_call_is_over_with_it(family: Family, written: str) -> None:
    answer = begin(family, is_parallel=False)
    text, parts = tell(answer, [written])
    (call,) = [part for part in parts if isinstance(part, ToolCall)]
    assert call.name == "get_weather" and answer.is_over and answer.num_calls == 1
    assert answer.push("more") == ("", [])


def test_call_in_the_middle_of_reasoning_closes_it() -> None:
    answer = begin(HERMES, is_open=True)
    text, parts = tell(answer, ['hm<tool_call>{"name": "now"}</tool_call>so'])
    assert (text, parts[0], answer.is_reasoning) == ("so", "hm", False)
    assert isinstance(parts[1], ToolCall) and parts[1].name == "now"


def test_without_tools_calls_are_text() -> None:
    answer = AnswerParts(format_of(HERMES, with_calls=False))
    written = f'<think>{THOUGHT}</think><tool_call>{{"name": "now"}}</tool_call>'
    text, parts = tell(answer, list(written))
    assert (text, "".join(map(str, parts))) == (written.partition("</think>")[2], THOUGHT)


def test_reasoning_may_come_twice() -> None:
    answer = begin(HERMES)
    text, parts = tell(answer, ["<think>a</think>b<think>c</think>d"])
    assert (text, parts) == ("bd", ["ac"])


def test_special_token_that_stops_hold_back_is_still_left_out() -> None:
    answer = begin(MISTRAL)
    answer.note("ab")
    answer.note("[INST]", num_special=6)
    answer.note("cd")
    assert [answer.push(piece)[0] for piece in ("a", "b[IN", "ST]c", "d")] == ["a", "b", "c", "d"]


def test_states_that_mean_nothing_show_nothing() -> None:
    answer = AnswerParts(format_of(FAMILIES[-1]))
    assert answer._state not in (NORMAL, TOOL)
    assert tell(answer, ["to=nobody"]) == ("", [])
