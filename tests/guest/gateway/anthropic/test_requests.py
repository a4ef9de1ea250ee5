"""Bodies of requests as what the host is asked; and what is refused, by its path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies

from mlxbridge.errors import UsageError
from mlxbridge.guest.gateway.anthropic.requests import HARMLESS, read_request
from mlxbridge.guest.gateway.model_facts import ModelFacts

PLAIN = ModelFacts(name="plain", most_tokens=1000, reasoning_choices=(), keeps_reasoning=False)
THINKER = ModelFacts(name="thinker", most_tokens=1000, reasoning_choices=(False, True), keeps_reasoning=True)
ALWAYS = ModelFacts(name="always", most_tokens=1000, reasoning_choices=(True,), keeps_reasoning=True)
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"name": "now", "description": "The time.", "input_schema": {"type": "object"}}
FUNCTION = {
    "type": "function",
    "function": {"name": "now", "description": "The time.", "parameters": {"type": "object"}},
}


def options_of(facts: ModelFacts | None = PLAIN, **body: Any) -> dict[str, Any]:
    return dict(read_request({"max_tokens": 9, "messages": HELLO, **body}).options(facts))


def messages_of(*messages: Any, system: Any = None, facts: ModelFacts = THINKER) -> Any:
    return options_of(facts, messages=list(messages), system=system)["messages"]


def text(*texts: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": one} for one in texts]


# -- options


def test_what_the_host_calls_the_same_stays() -> None:
    given: dict[str, Any] = {"model": "m", "temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": 7}
    assert options_of(**given) == {**given, "max_tokens": 9, "messages": HELLO}


def test_what_changes_nothing_is_taken_for_nothing() -> None:
    harmless: dict[str, Any] = dict.fromkeys(HARMLESS, {"any": "thing"})
    assert options_of(**harmless, stream=True, mcp_servers=[]) == options_of()


def test_what_is_null_is_left_out() -> None:
    assert options_of(temperature=None, container=None, stop_sequences=None, tools=None) == options_of()


def test_answers_end_at_stop_sequences() -> None:
    assert options_of(stop_sequences=["a", "b"])["stop"] == ["a", "b"]


@pytest.mark.parametrize("effort", [{}, {"effort": "high"}])
def test_answers_keep_to_a_schema(effort: dict[str, Any]) -> None:
    wanted = {"type": "json_schema", "schema": {"type": "object", "default": None}}
    assert options_of(output_config={"format": wanted, **effort})["response_format"] == wanted
    assert options_of(output_format=wanted)["response_format"] == wanted
    assert "response_format" not in options_of(output_config=effort)


@pytest.mark.parametrize(
    ("thinking", "facts", "options"),
    [
        (None, PLAIN, {}),
        (None, THINKER, {"reasoning": False}),
        (None, ALWAYS, {"reasoning": True}),  # told apart, so that it can be left out
        (None, None, {}),
        ({"type": "disabled"}, THINKER, {"reasoning": False}),
        ({"type": "adaptive"}, PLAIN, {}),
        ({"type": "adaptive"}, THINKER, {"reasoning": True}),
        ({"type": "adaptive", "budget_tokens": 0}, THINKER, {"reasoning": True}),
        ({"type": "enabled", "budget_tokens": 5}, THINKER, {"reasoning": True, "max_reasoning_tokens": 5}),
        # The host says that it cannot.
        ({"type": "enabled", "budget_tokens": 5}, PLAIN, {"reasoning": True, "max_reasoning_tokens": 5}),
    ],
)
def test_model_thinks_as_it_can_and_is_told(
    thinking: Any, facts: ModelFacts | None, options: dict[str, Any]
) -> None:
    assert options_of(facts, thinking=thinking) == {**options_of(PLAIN), **options}


@pytest.mark.parametrize(
    ("choice", "options"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "now"}, {"tool_choice": {"name": "now"}}),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
        ({"type": "auto", "disable_parallel_tool_use": False}, {"tool_choice": "auto"}),
    ],
)
def test_tools_are_functions(choice: Any, options: dict[str, Any]) -> None:
    told = {**TOOL, "type": "custom", "cache_control": {"type": "ephemeral"}, "eager_input_streaming": True}
    assert options_of(tools=[told], tool_choice=choice) == {**options_of(), "tools": [FUNCTION], **options}


def test_deferred_tools_are_told_once_they_were_found() -> None:
    deferred = {**TOOL, "defer_loading": True}
    assert "tools" not in options_of(tools=[deferred])
    found = {
        "type": "tool_result",
        "tool_use_id": "1",
        "content": [{"type": "tool_reference", "tool_name": "now"}],
    }
    asked = {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "search", "input": {}}]}
    chat = [*HELLO, asked, {"role": "user", "content": [found]}]
    options = options_of(tools=[deferred], messages=chat)
    assert options["tools"] == [FUNCTION]
    assert options["messages"][-1]["content"] == "The tool now can be called from now on."


# -- messages


def test_system_comes_first() -> None:
    assert messages_of(*HELLO, system="Be kind.") == [{"role": "system", "content": "Be kind."}, *HELLO]
    cached = [
        {**text("Be kind.")[0], "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        *text("Be brief."),
    ]
    assert messages_of(*HELLO, system=cached)[0]["content"] == "Be kind.\nBe brief."
    assert messages_of(*HELLO, system=[]) == HELLO


def test_block_that_differs_each_time_and_is_for_no_model_is_left_out() -> None:
    system = text("x-anthropic-billing-header: cc_version=2.1; cch=fa690;", "Be kind.")
    assert messages_of(*HELLO, system=system)[0]["content"] == "Be kind."


def test_system_message_amid_the_chat_keeps_its_place() -> None:
    """Where most templates take none; it must not move to the front, or no prefix of the chat would be found again."""
    effort = {"role": "system", "content": [], "output_config": {"effort": "low"}}
    assert messages_of(*HELLO, {"role": "system", "content": "Be brief."}, effort) == [
        {"role": "user", "content": "Hello\n<system>\nBe brief.\n</system>"}
    ]
    assert messages_of({"role": "system", "content": "Be brief."}, *HELLO)[0]["role"] == "system"


def test_turns_of_one_role_are_one() -> None:
    said: list[tuple[str, Any]] = [
        *[("user", "a"), ("user", text("b", "c"))],
        *[("assistant", "d"), ("assistant", [{"type": "fallback", "from": {}, "to": {}}])],
        ("user", "e"),
    ]
    turns = [{"role": role, "content": content} for role, content in said]
    assert messages_of(*turns) == [
        {"role": "user", "content": "a\nb\nc"},
        {"role": "assistant", "content": "d"},
        {"role": "user", "content": "e"},
    ]


CALLED = {
    "role": "assistant",
    "content": [
        {"type": "thinking", "thinking": "I must look.", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "Let me see.", "citations": None},
        {"type": "tool_use", "id": "1", "name": "now", "input": {"zone": None}, "caller": {"type": "direct"}},
        {"type": "tool_use", "id": "2", "name": "get", "input": {}},
    ],
}
RESULTS = {
    "role": "user",
    "content": [
        {"type": "tool_result", "tool_use_id": "1", "content": text("It is", "noon.")},
        {"type": "tool_result", "tool_use_id": "2", "content": "no such thing", "is_error": True},
        {"type": "text", "text": "Go on.", "cache_control": {"type": "ephemeral"}},
    ],
}


def test_calls_and_their_results_are_turns_of_the_hosts() -> None:
    assert messages_of(*HELLO, CALLED, RESULTS)[1:] == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning": "I must look.",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "now", "arguments": {"zone": None}}},
                {"id": "2", "type": "function", "function": {"name": "get", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "It is\nnoon.", "tool_call_id": "1", "name": "now"},
        {"role": "tool", "content": "Error: no such thing", "tool_call_id": "2", "name": "get"},
        {"role": "user", "content": "Go on."},
    ]


def test_what_was_thought_is_left_out_where_the_model_does_not_read_it() -> None:
    assert "reasoning" not in messages_of(*HELLO, CALLED, RESULTS, facts=PLAIN)[1]


def test_result_of_a_call_that_is_not_there_and_without_content() -> None:
    assert messages_of({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "9"}]}) == [
        {"role": "tool", "content": "", "tool_call_id": "9"}
    ]


# -- errors


def test_hosts_fields_are_called_as_in_the_request() -> None:
    deferred = {**TOOL, "name": "later", "defer_loading": True}
    body = {"max_tokens": 9, "messages": [*HELLO, CALLED, RESULTS], "tools": [deferred, TOOL], "system": "s"}
    names = read_request(body).names
    assert [names[f"messages[{place}]"] for place in range(6)] == [
        *["system", "messages.0", "messages.1", "messages.2", "messages.2", "messages.2"]
    ]
    assert names["tools[0].function.parameters"] == "tools.1.input_schema"
    assert "tools[1]" not in names


def block(**members: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [members]}]}


def said(**members: Any) -> dict[str, Any]:
    return {"messages": [*HELLO, {"role": "assistant", "content": [members]}, *HELLO]}


def result(**members: Any) -> dict[str, Any]:
    return block(type="tool_result", tool_use_id="1", **members)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": [7]}, "messages.0"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages.0.content"),
        ({"messages": [*HELLO, {"role": "assistant", "content": []}, *HELLO]}, "messages.1.content"),
        ({"messages": [*HELLO, {"role": "system", "content": []}]}, "messages.1.content"),
        (
            {"messages": [*HELLO, {"role": "system", "content": "x", "clear_at": "now"}]},
            "messages.1.clear_at",
        ),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages.0.name"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "I say"}]}, "messages.1.role"),
        (
            {"messages": [*HELLO, {"role": "system", "content": "x", "output_config": {"format": {}}}]},
            "messages.1.output_config.format",
        ),
        (block(type="image", source={}), "messages.0.content.0.type"),
        (block(type="document", source={}), "messages.0.content.0.type"),
        (block(type="tool_use", id="1", name="x", input={}), "messages.0.content.0.type"),
        (block(text="x"), "messages.0.content.0.type"),
        (block(type="text"), "messages.0.content.0.text"),
        (block(type="text", text="x", bold=True), "messages.0.content.0.bold"),
        (block(type="text", text="x", citations=[{}]), "messages.0.content.0.citations"),
        (block(type="tool_result", content="x"), "messages.0.content.0.tool_use_id"),
        (result(content=[{"type": "image"}]), "messages.0.content.0.content.0.type"),
        (result(is_error="yes"), "messages.0.content.0.is_error"),
        (said(type="server_tool_use", id="1", name="web_search", input={}), "messages.1.content.0.type"),
        (said(type="tool_use", id="1", name="x", input="{}"), "messages.1.content.0.input"),
        (said(type="tool_use", name="x", input={}), "messages.1.content.0.id"),
        (
            said(type="tool_use", id="1", name="x", input={}, caller={"type": "code_execution_20250825"}),
            "messages.1.content.0.caller.type",
        ),
        (
            said(type="tool_use", id="1", name="x", input={}, toolset_name="t"),
            "messages.1.content.0.toolset_name",
        ),
        (said(type="thinking", signature="x"), "messages.1.content.0.thinking"),
        ({"system": 7}, "system"),
        ({"system": [{"type": "image"}]}, "system.0.type"),
        ({"model": 7}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"stop_sequences": ["x", 7]}, "stop_sequences.1"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"name": "x"}]}, "tools.0.input_schema"),
        ({"tools": [{**TOOL, "type": "web_search_20250305"}]}, "tools.0.type"),
        ({"tools": [{**TOOL, "input_examples": [{}]}]}, "tools.0.input_examples"),
        ({"tools": [{**TOOL, "allowed_callers": ["code_execution_20250825"]}]}, "tools.0.allowed_callers"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tool_choice": {"type": ["auto"]}}, "tool_choice.type"),
        ({"tool_choice": {"type": "any", "name": "now"}}, "tool_choice.name"),
        ({"thinking": True}, "thinking"),
        ({"thinking": {"type": "much"}}, "thinking.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "disabled", "budget_tokens": 5}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "adaptive", "display": "some"}}, "thinking.display"),
        ({"thinking": {"type": "adaptive", "budget_tokens": {}}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens"),
        (
            {"thinking": {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "keep"}}},
            "thinking.block_binding.prefix_mismatch_behavior",
        ),
        ({"output_config": {"effort": {}}}, "output_config.effort"),
        (
            {"context_management": {"edits": [{"type": "clear_thinking_20251015", "trigger": {}}]}},
            "context_management.edits.0.trigger",
        ),
        (
            {"output_format": {"type": "json_schema", "schema": {}, "name": {}}},
            "output_format.name",
        ),
        ({"output_config": {"task_budget": {}}}, "output_config.task_budget"),
        ({"output_config": {"format": {"type": "regex"}}}, "output_config.format.type"),
        ({"output_format": {"type": "json_schema"}}, "output_format.schema"),
        ({"output_format": {}, "output_config": {"format": {}}}, "output_format"),
        (
            {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
            "context_management.edits.0.type",
        ),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ({"speed": "fast"}, "speed"),
        ({"n": 2}, "n"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_its_path(body: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError) as refused:
        options_of(**body)
    assert refused.value.details == {"field": field}
    assert refused.value.message.startswith(f"{field}: ")


@pytest.mark.parametrize("name", ["max_tokens", "temperature", "stop_sequences", "stream", "seed"])
def test_what_has_no_part_in_counting_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_request({"messages": HELLO, name: {}}, is_count=True)
    assert refused.value.details == {"field": name}


def test_what_the_system_says_for_one_answer_is_left_out_behind_it() -> None:
    note = {"role": "system", "content": "Be brief.", "clear_at": "next_user_message"}
    answer = {"role": "assistant", "content": "Hi"}
    assert "brief" in messages_of(*HELLO, note)[0]["content"]
    assert "brief" not in str(messages_of(*HELLO, note, answer, *HELLO))


def test_clearing_what_was_thought_is_no_error() -> None:
    edit = {"type": "clear_thinking_20251015", "keep": "all"}
    assert options_of(context_management={"edits": [edit]}) == options_of()


NAMES = [
    *(
        "role",
        "content",
        "type",
        "text",
        "user",
        "assistant",
        "system",
        "tool_use",
        "tool_result",
        "thinking",
    ),
    *(
        "name",
        "input",
        "id",
        "tool_use_id",
        "input_schema",
        "enabled",
        "budget_tokens",
        "json_schema",
        "format",
    ),
    *("edits", "schema", "auto", "signature", "data", "is_error"),
]
ANYTHING = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.sampled_from(NAMES),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)
FIELDS = [
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "context_management",
    "model",
]


@given(body=strategies.dictionaries(strategies.sampled_from(FIELDS), ANYTHING, max_size=3))
def test_body_is_read_or_refused_by_name(body: dict[str, Any]) -> None:
    try:
        request = read_request({"max_tokens": 9, "messages": HELLO, **body})
    except UsageError as error:
        assert error.details["field"].partition(".")[0] in FIELDS
    else:
        assert request.options(PLAIN)["messages"] and request.names
