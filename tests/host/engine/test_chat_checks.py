"""What a request may ask for its chat, before any model is looked at."""

from __future__ import annotations

from typing import Any

import pytest

from mlxbridge.errors import BridgeError, InvalidArgument
from mlxbridge.host.engine.grammar.response_format import Source
from mlxbridge.host.engine.interface import GenerateRequest
from mlxbridge.host.engine.text.chat_checks import MAX_TOOLS, check_chat


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "now", **function}}


def refusal(**request: Any) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        check_chat(GenerateRequest(**{"messages": [], **request}))
    return caught.value


@pytest.mark.parametrize(
    ("request_of", "field"),
    [
        ({"tools": "now"}, "tools"),
        ({"tools": {"now": 1}}, "tools"),
        ({"tools": 7}, "tools"),
        ({"tools": [tool(name=f"f{i}") for i in range(MAX_TOOLS + 1)]}, "tools"),
        ({"tools": ["now"]}, "tools[0]"),
        ({"tools": [tool(), {"type": "function"}]}, "tools[1]"),
        ({"tools": [{**tool(), "type": "code_interpreter"}]}, "tools[0]"),
        ({"tools": [tool(name=7)]}, "tools[0].function.name"),
        ({"tools": [tool(name="")]}, "tools[0].function.name"),
        ({"tools": [tool(name="x" * 257)]}, "tools[0].function.name"),
        ({"tools": [tool(), tool()]}, "tools[1].function.name"),
        ({"tools": [tool(parameters="{}")]}, "tools[0].function.parameters"),
        ({"tools": [tool(strict="yes")]}, "tools[0].function.strict"),
        ({"tools": [tool()], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": None}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": ["auto"]}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": {"name": "then"}}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": {"name": ["now"]}}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": {"type": "function", "name": "now"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"name": "now"}}, "tool_choice"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": [tool()], "parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"tools": [tool()], "parallel_tool_calls": None}, "parallel_tool_calls"),
        ({"reasoning": 1}, "reasoning"),
        ({"reasoning": "high"}, "reasoning"),
        ({"max_reasoning_tokens": 0}, "max_reasoning_tokens"),
        ({"max_reasoning_tokens": True}, "max_reasoning_tokens"),
        ({"max_reasoning_tokens": 1.5}, "max_reasoning_tokens"),
        ({"chat_template_kwargs": ["a"]}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {1: 2}}, "chat_template_kwargs"),
        ({"messages": None, "tools": [tool()]}, "tools"),
        ({"messages": None, "reasoning": False}, "reasoning"),
        ({"messages": None, "max_reasoning_tokens": 5}, "max_reasoning_tokens"),
        ({"messages": None, "chat_template_kwargs": {"a": 1}}, "chat_template_kwargs"),
    ],
)
def test_what_is_wrong_is_refused_by_name(request_of: dict[str, Any], field: str) -> None:
    error = refusal(**request_of)
    assert isinstance(error, InvalidArgument) and error.details == {"field": field}
    assert error.message.startswith(field) and len(error.message) <= 300


@pytest.mark.parametrize(
    "request_of",
    [
        {},
        {"messages": None},
        {"tools": []},
        {"tool_choice": "none"},
        {"tools": (tool(), {"function": {"name": "then", "parameters": None, "strict": False}})},
        {"tools": [tool(description="when", response={})], "tool_choice": {"name": "now"}},
        {"tools": [tool()], "tool_choice": "required", "parallel_tool_calls": False},
        {"tools": [tool(strict=True)]},
        {"tools": [tool(strict=True)], "tool_choice": {"name": "now"}},
        {"reasoning": False, "max_reasoning_tokens": 1, "chat_template_kwargs": {"a": {}}},
    ],
)
def test_what_is_right_is_let_through(request_of: dict[str, Any]) -> None:
    check_chat(GenerateRequest(**{"messages": [], **request_of}))


FORMAT = Source("regex", "response_format.pattern", "a+")


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("tools", {"tools": [tool()]}),
        ("max_reasoning_tokens", {"max_reasoning_tokens": 5, "reasoning": False}),
        ("max_reasoning_tokens", {"max_reasoning_tokens": 5}),
    ],
)
def test_what_a_format_has_no_place_for_is_refused(field: str, given: dict[str, Any]) -> None:
    assert refusal(**given, response_format=FORMAT).details == {"field": field}


def test_format_goes_with_reasoning_that_is_off_and_with_tools_that_are_not_told() -> None:
    request = GenerateRequest(
        messages=[], response_format=FORMAT, reasoning=False, tools=[tool()], tool_choice="none"
    )
    check_chat(request)
    assert not request.is_told_apart, "a marker in it is text like any other"


def test_parts_are_told_apart_where_something_asks_for_them() -> None:
    assert not GenerateRequest(messages=[], tools=(), chat_template_kwargs={"a": 1}).is_told_apart
    assert GenerateRequest(messages=[], tools=[tool()]).is_told_apart
    assert GenerateRequest(messages=[], reasoning=False).is_told_apart
    assert GenerateRequest(messages=[], max_reasoning_tokens=1).is_told_apart
