"""The parts of an answer as lists: there and back, in order, and cut to size."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxbridge.errors import RemoteProtocolError
from mlxbridge.protocol.parts import (
    REASONING,
    Part,
    check_parts,
    decode_part,
    encode_part,
    max_bytes,
    melt,
    split,
)
from mlxbridge.types import ToolCall
from tests.helpers.wire import pack

arguments = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3)
calls = st.builds(
    lambda index, call_id, name, given: ToolCall(
        index=index, id=call_id, name=name, arguments=given, text=json.dumps(given, ensure_ascii=False)
    ),
    st.integers(0, 1 << 40),
    st.text(max_size=9),
    st.text(max_size=9),
    arguments,
)
malformed_calls = st.builds(
    lambda index, text: ToolCall(index=index, id="", name="", arguments=None, text=text, malformed=True),
    st.integers(0, 1 << 40),
    st.text(max_size=30),
)
parts = st.one_of(st.text(max_size=60), calls, malformed_calls)


@given(part=parts)
def test_what_is_encoded_is_decoded_again(part: str | ToolCall) -> None:
    encoded = encode_part(part)
    check_parts([[encoded]], 1)
    assert decode_part(encoded) == part
    assert decode_part([*encoded, "of a later version"]) == part


@given(part=parts)
def test_no_part_takes_more_than_is_reckoned(part: str | ToolCall) -> None:
    encoded = encode_part(part)
    assert len(pack(encoded)) <= max_bytes(encoded)


@pytest.mark.parametrize("text", ["", "[1]", "7", '{"a": ', "[" * 100_000])
def test_arguments_that_are_no_object_make_a_call_malformed(text: str) -> None:
    part = decode_part([2, 4, "id", "name", text])
    assert part == ToolCall(index=4, id="id", name="name", arguments=None, text=text, malformed=True)


@given(given=st.lists(parts.map(encode_part), max_size=8))
def test_melting_keeps_the_order_and_leaves_no_reasoning_beside_reasoning(given: list[Part]) -> None:
    melted = melt(given)
    kinds = [part[0] for part in melted]
    assert not any(one == other == REASONING for one, other in zip(kinds, kinds[1:], strict=False))
    assert melt([*melted[:1], *melted[1:]]) == melted
    others = [part for part in given if part[0] != REASONING]
    assert [part for part in melted if part[0] != REASONING] == others
    texts = ["".join(part[1] for part in some if part[0] == REASONING) for some in (given, melted)]
    assert texts[0] == texts[1]


@given(given=st.lists(parts.map(encode_part), min_size=1, max_size=8), room=st.integers(60, 500))
def test_splitting_takes_what_fits_and_something_always(given: list[Part], room: int) -> None:
    melted = melt(given)
    taken, rest = split(melted, room)
    assert taken and melt([*taken, *rest]) == melted
    assert len(taken) == 1 or sum(map(max_bytes, taken)) <= room
    assert sum(map(max_bytes, taken)) <= room or taken[0][0] != REASONING


@given(
    column=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.binary(max_size=3),
        lambda inner: st.lists(inner, max_size=5),
        max_leaves=20,
    )
)
def test_any_column_is_refused_or_can_be_decoded(column: Any) -> None:
    try:
        check_parts(column, 2)
    except RemoteProtocolError:
        return
    assert len(column) == 2
    for row in column:
        for part in row or ():
            assert decode_part(part) is None or part[0] in (1, 2, 3)
