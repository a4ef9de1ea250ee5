"""Responses through openai's own clients: whole, as events in their order, and in rounds with tools."""

from __future__ import annotations

import json
from typing import Any, Literal

import httpx
import openai
import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from mlxbridge.guest.gateway.openai.responses.events import ResponseWriter
from mlxbridge.guest.gateway.openai.responses.request import read_request
from mlxbridge.guest.gateway.problem import Problem
from tests.guest.gateway.openai.sdk import check, refuse_extra
from tests.helpers import function_calling

ANSWER = "27 + 15 = 42."
SUM = "What is 27 + 15?"
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Tokyo", "Berlin", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
TOLD = ("store", "name")  # of responses, and of calls in events; some of the SDK's types lack them
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def events_of(stream: Any) -> list[Any]:
    """All of a stream's events, each as its type has it, numbered without a gap."""
    events = list(stream)
    for number, event in enumerate(events):
        EVENT.validate_python(event.to_dict(mode="json"))
        refuse_extra(event, TOLD)
        assert event.sequence_number == number
    return events


def names_of(events: list[Any]) -> list[str]:
    """What they are called, several deltas in a row as one."""
    names = [event.type.removeprefix("response.") for event in events]
    return [name for place, name in enumerate(names) if "delta" not in name or names[place - 1] != name]


def item_names(text: str) -> list[str]:
    parts = ["content_part.added", f"{text}.delta", f"{text}.done", "content_part.done"]
    return ["output_item.added", *parts, "output_item.done"]


CALL_NAMES = [
    "output_item.added",
    "function_call_arguments.delta",
    "function_call_arguments.done",
    "output_item.done",
]


def test_response_is_what_openai_gives(client: Any) -> None:
    asked: dict[str, Any] = {"model": "gpt-4o", "instructions": "Be brief.", "metadata": {"a": "b"}}
    asked |= {
        "temperature": 0,
        "user": "me",
        "parallel_tool_calls": False,
        "include": [],
        "service_tier": "auto",
    }
    found = check(client.responses.create(input=SUM, **asked), allowed=TOLD)
    assert (found.output_text, found.status, found.model) == (ANSWER, "completed", "gpt-4o")
    assert (found.object, found.error, found.metadata, found.user) == ("response", None, {"a": "b"}, "me")
    assert (found.instructions, found.temperature, found.tools) == ("Be brief.", 0, [])
    assert found.usage.total_tokens == found.usage.input_tokens + found.usage.output_tokens
    (item,) = found.output
    assert (item.type, item.role, item.status) == ("message", "assistant", "completed")


def test_events_come_in_order(client: Any) -> None:
    events = events_of(client.responses.create(model="demo", input=SUM, stream=True))
    assert names_of(events) == ["created", "in_progress", *item_names("output_text"), "completed"]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == ANSWER and len(deltas) > 5
    (done,) = (event for event in events if event.type == "response.output_text.done")
    assert done.text == ANSWER
    last = events[-1].response
    assert (last.output_text, last.status, last.usage.output_tokens) == (ANSWER, "completed", 12)
    assert {event.response.id for event in events if hasattr(event, "response")} == {last.id}
    assert {event.item_id for event in events if hasattr(event, "item_id")} == {last.output[0].id}


def test_event_has_its_name_on_a_line_of_its_own(http: httpx.Client) -> None:
    answer = http.post("/v1/responses", json={"input": SUM, "stream": True, "max_output_tokens": 1})
    *events, rest = answer.text.split("\n\n")
    assert rest == ""
    for event in events:
        name, data = event.split("\n")
        assert name == f"event: {json.loads(data.removeprefix('data: '))['type']}"


def test_answer_that_is_cut_is_incomplete(client: Any) -> None:
    asked: dict[str, Any] = {"model": "demo", "input": SUM, "max_output_tokens": 2}
    found = client.responses.create(**asked)
    assert (found.status, found.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (found.output_text, found.output[0].status) == ("27", "incomplete")
    events = events_of(client.responses.create(stream=True, **asked))
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.output[0].status == "incomplete"


def test_rounds_with_tools(client: Any) -> None:
    asked: dict[str, Any] = {"model": "caller", "tools": [WEATHER], "reasoning": {"effort": "none"}}
    conversation: list[Any] = [{"role": "user", "content": "Weather?"}]
    found = check(client.responses.create(input=conversation, **asked), allowed=TOLD)
    message, call = found.output
    assert (message.content[0].text, call.type, call.name) == ("Let me see. ", "function_call", "get_weather")
    assert json.loads(call.arguments) == {"city": "Tokyo"}
    conversation += found.output  # as they came
    conversation.append({"type": "function_call_output", "call_id": call.call_id, "output": "rain"})
    after = client.responses.create(input=conversation, **asked)
    assert after.output_text == "It rains."


def test_calls_are_events_in_order(client: Any) -> None:
    asked: dict[str, Any] = {"model": "caller", "tools": [WEATHER], "reasoning": {"effort": "none"}}
    events = events_of(client.responses.create(input="Both?", stream=True, **asked))
    assert names_of(events) == ["created", "in_progress", *CALL_NAMES, *CALL_NAMES, "completed"]
    calls = events[-1].response.output
    assert [json.loads(call.arguments)["city"] for call in calls] == ["Berlin", "Rome"]
    added = [event for event in events if event.type == "response.output_item.added"]
    assert [(event.output_index, event.item.arguments, event.item.status) for event in added] == [
        (0, "", "in_progress"),
        (1, "", "in_progress"),
    ]
    told = [event.item for event in events if event.type == "response.output_item.done"]
    assert [one.call_id for one in told] == [one.call_id for one in calls]
    mixed = events_of(client.responses.create(input="Weather?", stream=True, **asked))
    assert names_of(mixed)[2:-1] == [*item_names("output_text"), *CALL_NAMES]


def test_custom_tools_and_namespaces_are_called_as_they_were_given(client: Any) -> None:
    shell = {"type": "custom", "name": "shell", "description": "Runs a command."}
    find = {
        "type": "function",
        "name": "find",
        "parameters": {"type": "object"},
        "strict": False,
        "output_schema": None,
    }
    web = {"type": "namespace", "name": "web", "description": "The web.", "tools": [find]}
    asked: dict[str, Any] = {"model": "caller", "tools": [shell, web], "reasoning": {"effort": "none"}}
    asked |= {"tool_choice": "auto", "parallel_tool_calls": True, "store": False}
    asked |= {"include": ["reasoning.encrypted_content"], "prompt_cache_key": "k"}
    asked |= {"extra_body": {"client_metadata": {"x-codex": "1"}}}
    conversation: list[Any] = [{"role": "user", "content": "Shell?"}]
    (custom,) = check(client.responses.create(input=conversation, **asked), allowed=TOLD).output
    assert (custom.type, custom.name, custom.input) == ("custom_tool_call", "shell", "ls -l")
    conversation += [
        custom,
        {"type": "custom_tool_call_output", "call_id": custom.call_id, "output": "a file"},
    ]
    assert client.responses.create(input=conversation, **asked).output_text == "It rains."
    events = events_of(client.responses.create(input="Shell?", stream=True, **asked))
    assert names_of(events)[2:-1] == [
        name.replace("function_call_arguments", "custom_tool_call_input") for name in CALL_NAMES
    ]
    assert events[-1].response.output[0].input == "ls -l"
    (call,) = client.responses.create(input="Search?", **asked).output
    assert (call.type, call.namespace, call.name, call.arguments) == (
        "function_call",
        "web",
        "find",
        '{"q": "rain"}',
    )
    events = events_of(client.responses.create(input="Search?", stream=True, **asked))
    assert events[-1].response.output[0].namespace == "web"


def test_call_can_be_made_sure(client: Any) -> None:
    asked: dict[str, Any] = {"model": "caller", "input": "x", "reasoning": {"effort": "none"}}
    for choice in ("required", {"type": "function", "name": "get_weather"}):
        found = client.responses.create(
            tools=[{**WEATHER, "strict": True}], tool_choice=choice, max_output_tokens=400, **asked
        )
        assert found.output[-1].name == "get_weather"


def test_strict_tool_is_kept_to_where_the_model_decides(client: Any) -> None:
    """Which would say where Paris is."""
    city = {"type": "object", "properties": {"city": {"enum": ["Rome"]}}, "required": ["city"]}
    strict: Any = {**WEATHER, "parameters": {**city, "additionalProperties": False}, "strict": True}
    found = client.responses.create(
        model="caller", input=function_calling.QUESTION, tools=[strict], reasoning={"effort": "none"}
    )
    assert json.loads(found.output[-1].arguments) == {"city": "Rome"} and found.tools[0].strict


def test_what_is_no_call_is_text(client: Any) -> None:
    asked: dict[str, Any] = {"model": "caller", "tools": [WEATHER], "reasoning": {"effort": "none"}}
    assert "no call" in client.responses.create(input="Broken?", **asked).output_text
    events = events_of(client.responses.create(input="Broken?", stream=True, **asked))
    assert "no call" in events[-1].response.output_text


def test_reasoning_is_an_item_of_its_own(client: Any) -> None:
    asked: dict[str, Any] = {"model": "caller", "extra_body": {"reasoning": True}}
    found = check(client.responses.create(input="x", **asked), allowed=TOLD)
    thought, said = found.output
    assert (thought.type, thought.content[0].text, thought.summary) == ("reasoning", "I look it up.", [])
    assert (said.content[0].text, found.output_text) == ("Well.", "Well.")
    assert found.usage.output_tokens_details.reasoning_tokens == 1
    events = events_of(client.responses.create(input="x", stream=True, **asked))
    texts = [*item_names("reasoning_text"), *item_names("output_text")]
    assert names_of(events) == ["created", "in_progress", *texts, "completed"]
    assert client.responses.create(model="caller", input="x").output[0].content[0].text == "I look it up."
    again = [{"role": "user", "content": "x"}, *found.output, {"role": "user", "content": "y"}]
    assert client.responses.create(input=again, **asked).output_text == "Well."


def test_formats(client: Any) -> None:
    class Capital(BaseModel):
        name: Literal["Berlin", "Paris"]

    asked: dict[str, Any] = {"model": "demo", "input": "What is the capital of France?"}
    found = client.responses.parse(text_format=Capital, **asked)
    assert found.output_parsed.name in ("Berlin", "Paris")
    with client.responses.stream(text_format=Capital, **asked) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_parsed == found.output_parsed
    form: Any = {"format": {"type": "json_object"}}
    assert client.responses.create(text=form, max_output_tokens=3, **asked).output_text.startswith("{")


def test_logprobs(client: Any) -> None:
    asked: dict[str, Any] = {"model": "demo", "input": SUM, "top_logprobs": 2}
    include: Any = ["message.output_text.logprobs"]
    found = check(client.responses.create(include=include, **asked), allowed=TOLD)
    tokens = found.output[0].content[0].logprobs
    assert "".join(token.token for token in tokens) == ANSWER
    assert all(len(token.top_logprobs) == 2 for token in tokens)
    events = list(client.responses.create(stream=True, **asked))
    told = [
        token.token
        for event in events
        if event.type == "response.output_text.delta"
        for token in event.logprobs
    ]
    assert "".join(told) == ANSWER
    assert len(events[-1].response.output[0].content[0].logprobs) == len(tokens)


def test_logprobs_are_those_of_the_text(client: Any) -> None:
    asked: dict[str, Any] = {"model": "caller", "input": "x", "top_logprobs": 0}
    asked["include"] = ["message.output_text.logprobs"]
    whole = client.responses.create(**asked).output
    *_, last = client.responses.create(stream=True, **asked)
    for thought, said in (whole, last.response.output):
        tokens = [token.token for token in said.content[0].logprobs]
        assert (thought.type, said.content[0].text) == ("reasoning", "Well.")
        assert "Well." in tokens and "I look it up." not in tokens


def test_options_of_the_host_stand_beside_openais(blocking: Any) -> None:
    host = {"seed": 1, "stop": ["="], "top_k": 1, "logit_bias": {"22": -1}, "keep_alive": "30m"}
    found = blocking.responses.create(model="demo", input=SUM, temperature=2.0, extra_body=host)
    assert found.output_text == "27 + 15 "


def test_input_tokens_are_counted(client: Any) -> None:
    asked: dict[str, Any] = {"model": "caller", "input": "Weather?", "tools": [WEATHER]}
    counted = client.responses.input_tokens.count(**asked)
    found = client.responses.create(max_output_tokens=1, **asked)
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", found.usage.input_tokens)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"max_output_tokens": {}}, "max_output_tokens"),
        ({"temperature": 1}, "temperature"),
        ({"parallel_tool_calls": 5}, "parallel_tool_calls"),
        ({"text": {"format": {"type": "regex"}}}, "text.format.type"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ],
)
def test_what_has_no_part_in_counting_is_refused(http: httpx.Client, given: Any, param: str) -> None:
    answer = http.post("/v1/responses/input_tokens", json={"model": "demo", "input": SUM, **given})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_nothing_is_kept(client: Any) -> None:
    found = client.responses.create(model="demo", input=SUM, store=False, max_output_tokens=1)
    assert found.to_dict()["store"] is False
    for ask in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError, match="keeps none"):
            ask(found.id)
    with pytest.raises(openai.NotFoundError):
        list(client.responses.input_items.list(found.id).data)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="demo", input=SUM, previous_response_id=found.id)
    assert caught.value.param == "previous_response_id"


def test_what_fails_once_it_has_begun_is_told_as_an_event(blocking: Any) -> None:
    endless = {"ignore_eos": True, "timeout": 2}
    stream = blocking.responses.create(
        model="demo", input=SUM, stream=True, max_output_tokens=1000, extra_body=endless
    )
    events = events_of(stream)
    last = events[-1]
    assert (last.type, last.response.status) == ("response.failed", "failed")
    assert last.response.error.code == "server_error"
    assert last.response.output[0].status == "incomplete" and last.response.output_text


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"store": True}, "store"),
    ({"background": True}, "background"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "x"}}, "prompt"),
    ({"truncation": "auto"}, "truncation"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"max_tool_calls": 1}, "max_tool_calls"),
    ({"include": ["file_search_call.results"]}, "include[0]"),
    ({"include": "x"}, "include"),
    ({"input": None}, "input"),
    ({"input": []}, "input"),
    ({"instructions": 1}, "instructions"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_tokens": 3}, "max_tokens"),
    ({"top_logprobs": 50}, "top_logprobs"),
    ({"top_p": 9}, "top_p"),
    ({"stream": 1}, "stream"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ({"stream_options": {"include_usage": True}}, "stream_options.include_usage"),
    ({"stream_options": {"include_obfuscation": 0}}, "stream_options.include_obfuscation"),
    ({"store": 0}, "store"),
    ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ({"text": {"verbosity": "low"}}, "text.verbosity"),
    ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
    ({"text": {"format": {"type": "json_schema", "schema": {"not": {}}}}}, "text.format"),
    ({"text": {"format": {"type": "xml"}}}, "text.format"),
    (
        {"text": {"format": {"type": "json_schema", "schema": {}, "strictly": True}}},
        "text.format.strictly",
    ),
    ({"text": {"format": {"type": "json_schema", "schema": {}, "name": 5}}}, "text.format.name"),
    ({"text": "x"}, "text"),
    ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
    ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
    ({"reasoning": {"context": "all_turns"}}, "reasoning.context"),
    ({"reasoning": {"depth": 1}}, "reasoning.depth"),
    ({"reasoning": 1}, "reasoning"),
    ({"tools": {}}, "tools"),
    ({"tools": [{"type": "web_search"}]}, "tools[0]"),
    ({"tools": [{"type": "function", "name": ""}], "model": "caller"}, "tools[0].name"),
    ({"tools": [{"type": "function", "name": "f", "colour": 1}]}, "tools[0].colour"),
    ({"tools": [{**WEATHER, "strict": "yes"}]}, "tools[0].strict"),
    ({"tools": [{**WEATHER, "defer_loading": True}]}, "tools[0].defer_loading"),
    ({"tools": [{**WEATHER, "output_schema": {}}]}, "tools[0].output_schema"),
    (
        {"tools": [{"type": "custom", "name": "f", "format": {"type": "grammar", "syntax": "lark"}}]},
        "tools[0].format",
    ),
    (
        {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "namespace", "name": "m"}]}]},
        "tools[0].tools[0].type",
    ),
    ({"tools": [WEATHER, WEATHER]}, "tools[1].name"),
    ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "name": "f", "mode": "auto"}}, "tool_choice.mode"),
    ({"tol_choice": "auto"}, "tol_choice"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
]


@pytest.mark.parametrize(("given", "param"), REFUSED, ids=str)
def test_what_cannot_be_done_is_refused_by_name(http: httpx.Client, given: Any, param: str) -> None:
    answer = http.post("/v1/responses", json={"model": "demo", "input": SUM, **given})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"].startswith(param) and error["message"].startswith(error["param"])


def test_field_of_an_item_is_named_as_the_request_has_it(http: httpx.Client) -> None:
    user = {"role": "user", "content": "x"}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "no JSON"}
    answer = http.post("/v1/responses", json={"model": "caller", "input": [user, call]})
    assert answer.json()["error"]["param"].startswith("input[1]"), answer.text


def test_response_that_fails_before_anything_is_said_begins_all_the_same() -> None:
    writer = ResponseWriter(read_request({"model": "demo", "input": "Hello"}))
    told = writer.fail(Problem(503, "the host is away", code="unavailable"), "req-1").decode()
    events = [json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: ")]
    names = ["response.created", "response.in_progress", "response.failed"]
    assert [event["type"] for event in events] == names
    assert [event["sequence_number"] for event in events] == [0, 1, 2]
    for event in events:
        TypeAdapter(ResponseStreamEvent).validate_python(event)
