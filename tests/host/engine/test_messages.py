"""Messages as guests send them, and as chat templates get them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlxbridge.errors import BridgeError, InvalidArgument, Unsupported
from mlxbridge.host.engine.text.messages import check_messages, count_chars

CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 27, "b": [15]}}}


def asked(calls: Any, **message: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": calls, **message}


def called(**function: Any) -> list[dict[str, Any]]:
    return [{"function": {"name": "add", "arguments": {}, **function}}]


def refusal(message: Any) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        check_messages([{"role": "user", "content": "hi"}, message])
    return caught.value


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    assert check_messages([{"role": "user", "content": parts}]) == [{"role": "user", "content": "one two"}]
    assert check_messages(({"role": "user", "content": ()},)) == [{"role": "user", "content": ""}]


def test_tool_calls_and_their_results_reach_the_template_as_they_are() -> None:
    chat = [
        {"role": "user", "content": "27 + 15?"},
        asked([CALL]),
        {"role": "tool", "tool_call_id": "1", "name": "add", "content": "42"},
        {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
        {"role": "assistant", "tool_calls": [CALL]},
    ]
    assert check_messages(chat) == chat


def test_arguments_in_json_are_read_and_the_callers_stay_as_they_are() -> None:
    message = asked(called(arguments=json.dumps(CALL["function"])))
    before = json.dumps(message)
    assert check_messages([message]) == [asked(called(arguments=CALL["function"]))]
    assert json.dumps(message) == before


@pytest.mark.parametrize("calls", [None, []])
def test_no_tool_calls_are_none(calls: Any) -> None:
    assert check_messages([asked(calls, content="hi")]) == [{"role": "assistant", "content": "hi"}]


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({"role": "user"}, ".content"),
        ({"role": "user", "content": None}, ".content"),
        ({"role": "user", "content": {"type": "text", "text": "a"}}, ".content"),
        ({"role": "user", "content": ["a"]}, ".content[0]"),
        ({"role": "user", "content": [{"text": "a"}]}, ".content[0].type"),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text"}]}, ".content[1].text"),
        ({"content": "a"}, ".role"),
        ({"role": "assistant", "content": None}, ".content"),
        ({"role": "tool", "content": "42", "tool_call_id": 1}, ".tool_call_id"),
        (asked("add"), ".tool_calls"),
        (asked(["add"]), ".tool_calls[0]"),
        (asked([CALL, {}]), ".tool_calls[1].function"),
        (asked([{**CALL, "id": 1}]), ".tool_calls[0].id"),
        (asked(called(name=None)), ".tool_calls[0].function.name"),
        (asked(called(arguments=None)), ".tool_calls[0].function.arguments"),
        (asked(called(arguments="")), ".tool_calls[0].function.arguments"),
        (asked(called(arguments="[1]")), ".tool_calls[0].function.arguments"),
        (asked(called(arguments="[" * 100_000)), ".tool_calls[0].function.arguments"),
        (asked(called(arguments={"a": b"x"})), ".tool_calls[0].function.arguments"),
    ],
)
def test_message_of_a_wrong_shape_names_the_place(message: Any, place: str) -> None:
    error = refusal(message)
    assert isinstance(error, InvalidArgument)
    assert error.details == {"field": f"messages[1]{place}"}
    assert error.message.startswith(f"messages[1]{place} must be ")


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, ".content[0].type"),
        ({"role": "user", "content": [{"type": "text", "text": "a", "cache": 1}]}, ".content[0].cache"),
        ({"role": "user", "content": "a", "name": "Ann"}, ".name"),
        ({"role": "user", "content": "a", "tool_calls": [CALL]}, ".tool_calls"),
        (asked([{**CALL, "type": "custom"}]), ".tool_calls[0].type"),
        (asked([{**CALL, "index": 0}]), ".tool_calls[0].index"),
        (asked(called(description="adds")), ".tool_calls[0].function.description"),
        ({"role": "user", "content": "a", "x" * 5000: 1}, "." + "x" * 100),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(message: Any, place: str) -> None:
    error = refusal(message)
    assert isinstance(error, Unsupported)
    assert error.details == {"field": f"messages[1]{place}"}
    assert len(error.message) < 300


def test_characters_of_tool_calls_count() -> None:
    (message,) = check_messages([asked(called(arguments={"text": "a" * 1000}), content="b" * 100)])
    assert 1100 < count_chars(message) < 1200
    (message,) = check_messages([asked(called())])
    assert count_chars(message) < 100
