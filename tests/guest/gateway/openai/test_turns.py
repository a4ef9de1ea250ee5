"""Items of a response's input as turns of a chat."""

from __future__ import annotations

from typing import Any

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.guest.gateway.openai.responses.turns import Turns

USER = {"role": "user", "content": "Weather?"}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "c1",
    "name": "f",
    "arguments": "{}",
    "status": "completed",
}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "Hm."}],
}
SAID = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [
        {"type": "output_text", "text": "Well", "annotations": []},
        {"type": "refusal", "refusal": "."},
    ],
}
CALLED = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def test_text_is_a_question() -> None:
    turns = Turns("Be brief.", "Weather?")
    assert turns.messages == [{"role": "system", "content": "Be brief."}, USER]
    assert turns.names == {"messages": "input", "messages[0]": "instructions", "messages[1]": "input"}


def test_instructions_and_what_developers_say_first_are_one_turn() -> None:
    developer = {"role": "developer", "content": [{"type": "input_text", "text": "In French."}]}
    turns = Turns("Be brief.", [developer, USER, developer])
    assert [turn["role"] for turn in turns.messages] == ["system", "user", "system"]
    assert turns.messages[0]["content"] == "Be brief.\n\nIn French."
    assert turns.names["messages[1]"] == "input[1]"


def test_what_a_model_says_and_calls_is_one_turn() -> None:
    turns = Turns(None, [USER, THOUGHT, SAID, CALL, {**CALL, "call_id": "c2"}, RESULT, CALL])
    assert turns.messages[1] == {
        "role": "assistant",
        "content": "Well.",
        "reasoning": "Hm.",
        "tool_calls": [CALLED, {**CALLED, "id": "c2"}],
    }
    assert turns.messages[2:] == [
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "assistant", "content": None, "tool_calls": [CALLED]},
    ]


def test_reasoning_for_earlier_answers_is_not_read_again() -> None:
    turns = Turns(None, [USER, THOUGHT, SAID, USER])
    assert [set(turn) for turn in turns.messages] == [{"role", "content"}] * 3


def test_calls_of_custom_tools_and_of_namespaces_are_calls_of_their_functions() -> None:
    custom = {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": 'a "b"'}
    result = {"type": "custom_tool_call_output", "call_id": "c1", "output": "done", "name": "patch"}
    turns = Turns(None, [USER, {**CALL, "namespace": "mcp"}, custom, result])
    calls = [call["function"] for call in turns.messages[1]["tool_calls"]]
    assert calls == [
        {"name": "mcp__f", "arguments": "{}"},
        {"name": "patch", "arguments": '{"input": "a \\"b\\""}'},
    ]
    assert turns.messages[2] == {"role": "tool", "tool_call_id": "c1", "content": "done"}


@pytest.mark.parametrize(
    ("items", "field"),
    [
        (["x"], "input[0]"),
        ([{"type": "item_reference", "id": "x"}], "input[0].type"),
        ([{"content": "x"}], "input[0].role"),
        ([{"role": "user"}], "input[0].content"),
        ([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}], "input[0].content[0]"),
        ([{"role": "user", "content": [{"type": "input_text"}]}], "input[0].content[0]"),
        ([{**USER, "name": "me"}], "input[0].name"),
        ([{**CALL, "arguments": {}}], "input[0].arguments"),
        ([{**RESULT, "call_id": None}], "input[0].call_id"),
        ([{**RESULT, "output": 1}], "input[0].output"),
        ([USER, THOUGHT], "input[1]"),
        ([USER, THOUGHT, RESULT], "input[1]"),
        (
            [{"type": "reasoning", "summary": [], "encrypted_content": "x"}, SAID],
            "input[0].encrypted_content",
        ),
        ([{"type": "reasoning", "summary": "x"}, SAID], "input[0].summary"),
        ([{"type": ["message"], "role": "user", "content": "x"}], "input[0].type"),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": "x", "detail": "low"}]}],
            "input[0].content[0].detail",
        ),
        ([{**THOUGHT, "content": [{"type": "reasoning_text", "text": 5}]}, SAID], "input[0].content[0]"),
        ([{**CALL, "namespace": 5}], "input[0].namespace"),
        (
            [{"type": "custom_tool_call", "call_id": "c1", "name": "f", "arguments": "x"}],
            "input[0].arguments",
        ),
    ],
    ids=str,
)
def test_item_that_is_none_is_refused_by_name(items: Any, field: str) -> None:
    with pytest.raises(UsageError) as caught:
        Turns(None, items)
    assert caught.value.details["field"] == field
