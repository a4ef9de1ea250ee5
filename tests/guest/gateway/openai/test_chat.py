"""Chats through openai's own clients, whole and as they come."""

from __future__ import annotations

import json
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel

from tests.guest.gateway.openai.sdk import check
from tests.helpers import function_calling

SUM: list[Any] = [{"role": "user", "content": "What is 27 + 15?"}]
ANSWER = "27 + 15 = 42."
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Tokyo", "Berlin", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def ask(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_answer_is_what_openai_gives(client: Any) -> None:
    found = check(client.chat.completions.create(model="gpt-4o", messages=SUM))
    (choice,) = found.choices
    assert (choice.message.content, choice.finish_reason, choice.index) == (ANSWER, "stop", 0)
    assert (found.object, found.model) == ("chat.completion", "gpt-4o")
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    assert found._request_id.startswith("req-")


def test_chunks_are_what_openai_gives(client: Any) -> None:
    chunks = [
        check(chunk) for chunk in client.chat.completions.create(model="demo", messages=SUM, stream=True)
    ]
    assert len({chunk.id for chunk in chunks}) == 1
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert (deltas[0].role, deltas[0].content) == ("assistant", "")
    assert "".join(delta.content or "" for delta in deltas) == ANSWER and len(chunks) > 5
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "stop"]
    assert all("usage" not in chunk.to_dict() for chunk in chunks)


def test_usage_comes_at_the_end_of_a_stream_if_it_is_wanted(client: Any) -> None:
    options: Any = {"include_usage": True}
    stream = client.chat.completions.create(model="demo", messages=SUM, stream=True, stream_options=options)
    *chunks, last = [check(chunk) for chunk in stream]
    assert all(chunk.to_dict()["usage"] is None for chunk in chunks)
    assert last.choices == []
    assert last.usage.completion_tokens == 12


def test_stream_is_events_to_its_done(http: httpx.Client) -> None:
    answer = http.post("/v1/chat/completions", json={"messages": SUM, "stream": True, "max_tokens": 1})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(json.loads(event.removeprefix("data: "))["choices"] for event in events)


def test_several_answers(client: Any) -> None:
    asked: dict[str, Any] = {"messages": SUM, "n": 3, "temperature": 2.0, "seed": 3, "max_tokens": 8}
    found = client.chat.completions.create(model="demo", **asked)
    texts = [choice.message.content for choice in found.choices]
    assert [choice.index for choice in found.choices] == [0, 1, 2] and len(set(texts)) > 1
    parts, reasons = ["", "", ""], 0
    for chunk in client.chat.completions.create(model="demo", stream=True, **asked):
        parts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
        reasons += chunk.choices[0].finish_reason is not None
    assert (parts, reasons) == (texts, 3)


def test_logprobs(client: Any) -> None:
    asked: dict[str, Any] = {"model": "demo", "messages": SUM, "logprobs": True, "top_logprobs": 2}
    tokens = check(client.chat.completions.create(**asked)).choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == ANSWER
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in tokens)
    chunks = [check(chunk).choices[0] for chunk in client.chat.completions.create(stream=True, **asked)]
    told = [token for choice in chunks if choice.logprobs for token in choice.logprobs.content]
    assert [token.token for token in told] == [token.token for token in tokens]


def test_settings_reach_the_host(blocking: Any) -> None:
    def text(**given: Any) -> str:
        found = blocking.chat.completions.create(model="demo", messages=SUM, **given)
        return str(found.choices[0].message.content)

    assert text(stop=["="]) == "27 + 15 "
    assert text(logit_bias={"22": -1}, presence_penalty=0.1, frequency_penalty=0.1, top_p=0.9) == ANSWER
    assert text(logit_bias={"22": -100}) != ANSWER
    assert text(max_completion_tokens=2) == text(max_tokens=2) == "27"
    developer = [{"role": "developer", "content": "Answer briefly."}, *SUM]
    harmless: Any = {"user": "me", "store": True, "metadata": {"a": "b"}, "service_tier": "auto"}
    assert blocking.chat.completions.create(model="demo", messages=developer, **harmless).choices


def test_options_of_the_host_stand_beside_openais(blocking: Any) -> None:
    host = {"top_k": 1, "min_p": 0.1, "repetition_penalty": 1.0, "keep_alive": "30m", "priority": "low"}
    host |= {"speculation": "ngram", "ignore_eos": False, "min_tokens": 1, "timeout": 60, "retry": 1}
    found = blocking.chat.completions.create(model="demo", messages=SUM, temperature=2.0, extra_body=host)
    assert found.choices[0].message.content == ANSWER
    scene = {"chat_template_kwargs": {"scene": "<scene:result>"}, "reasoning": False}
    told = blocking.chat.completions.create(model="caller", messages=ask("x"), extra_body=scene)
    assert told.choices[0].message.content == "It rains."


def test_tools(client: Any) -> None:
    asked: dict[str, Any] = {"model": "caller", "tools": [WEATHER], "reasoning_effort": "none"}
    messages = ask("Weather?")
    found = check(client.chat.completions.create(messages=messages, **asked)).choices[0]
    (call,) = found.message.tool_calls
    assert (found.finish_reason, found.message.content) == ("tool_calls", "Let me see. ")
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Tokyo"})

    messages += [found.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    after = client.chat.completions.create(messages=messages, **asked)
    assert after.choices[0].message.content == "It rains."


def test_tool_calls_of_one_answer_come_as_deltas(client: Any) -> None:
    asked: dict[str, Any] = {"model": "caller", "messages": ask("Both?"), "tools": [WEATHER]}
    asked["reasoning_effort"] = "none"
    chunks = [check(chunk).choices[0] for chunk in client.chat.completions.create(stream=True, **asked)]
    calls = [call for choice in chunks for call in choice.delta.tool_calls or ()]
    opened, told = ([call for call in calls if bool(call.id) is has_id] for has_id in (True, False))
    assert [(call.index, call.function.name, call.function.arguments) for call in opened] == [
        (0, "get_weather", ""),
        (1, "get_weather", ""),
    ]
    assert [(call.index, json.loads(call.function.arguments)["city"]) for call in told] == [
        (0, "Berlin"),
        (1, "Rome"),
    ]
    assert len({call.id for call in opened}) == 2 and chunks[-1].finish_reason == "tool_calls"
    with client.chat.completions.stream(**asked) as stream:  # the SDK's own way of putting them together
        for _ in stream:
            pass
        whole = stream.get_final_completion()
    assert [call.function.name for call in whole.choices[0].message.tool_calls] == ["get_weather"] * 2
    one = client.chat.completions.create(**asked, parallel_tool_calls=False)
    assert len(one.choices[0].message.tool_calls) == 1


def test_openais_examples_of_function_calling(client: Any) -> None:
    asked = {"model": "caller", "reasoning_effort": "none"}
    assert function_calling.ask_and_answer(client, **asked).content == "It rains."
    (call,) = function_calling.gather(client, **asked).values()
    told = (call.function.name, json.loads(call.function.arguments))
    assert told == ("get_weather", function_calling.ARGUMENTS)


def test_strict_tool_is_kept_to_where_the_model_decides(blocking: Any) -> None:
    """Which would say where Paris is."""
    city = {"type": "object", "properties": {"city": {"enum": ["Rome"]}}, "required": ["city"]}
    strict = {"name": "get_weather", "parameters": {**city, "additionalProperties": False}, "strict": True}
    asked: dict[str, Any] = {"model": "caller", "tools": [{"type": "function", "function": strict}]}
    found = blocking.chat.completions.parse(
        messages=ask(function_calling.QUESTION), reasoning_effort="none", **asked
    )
    (call,) = found.choices[0].message.tool_calls
    assert call.function.parsed_arguments == {"city": "Rome"}


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}], ids=str
)
def test_call_can_be_made_sure(blocking: Any, choice: Any) -> None:
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}  # type: ignore[dict-item]
    asked = {"tools": [strict], "tool_choice": choice, "reasoning_effort": "none"}
    found = blocking.chat.completions.create(model="caller", messages=ask("x"), max_tokens=400, **asked)
    assert found.choices[0].message.tool_calls[0].function.name == "get_weather"


def test_what_is_no_call_is_text(client: Any) -> None:
    asked: dict[str, Any] = {"model": "caller", "messages": ask("Broken?"), "tools": [WEATHER]}
    asked["reasoning_effort"] = "none"
    whole = client.chat.completions.create(**asked).choices[0].message
    assert "no call" in whole.content and whole.tool_calls is None
    chunks = [chunk.choices[0].delta for chunk in client.chat.completions.create(stream=True, **asked)]
    assert "".join(delta.content or "" for delta in chunks) == whole.content


def test_reasoning_has_a_field_of_its_own(client: Any) -> None:
    asked: dict[str, Any] = {"model": "caller", "messages": ask("x"), "extra_body": {"reasoning": True}}
    found = check(client.chat.completions.create(**asked), allowed=("reasoning_content",))
    message = found.choices[0].message
    assert (message.reasoning_content, message.content) == ("I look it up.", "Well.")
    assert found.usage.completion_tokens_details.reasoning_tokens == 1
    deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(stream=True, **asked)]
    assert "".join(getattr(delta, "reasoning_content", "") for delta in deltas) == "I look it up."
    off = client.chat.completions.create(model="caller", messages=ask("Weather?"), reasoning_effort="none")
    assert off.choices[0].message.content.startswith("Let me see.")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, ("I look it up.", "Well.")),
        ({"chat_template_kwargs": {"enable_thinking": True}}, ("I look it up.", "Well.")),
        ({"chat_template_kwargs": {"enable_thinking": False}}, ("", "Let me see. ")),
        ({"reasoning": False}, ("", "Let me see. ")),
        ({"max_reasoning_tokens": 50}, ("I look it up.", "Well.")),
    ],
    ids=str,
)
def test_reasoning_is_never_in_the_text(blocking: Any, given: Any, told: tuple[str, str]) -> None:
    found = blocking.chat.completions.create(model="caller", messages=ask("Weather?"), extra_body=given)
    message = found.choices[0].message
    assert (getattr(message, "reasoning_content", ""), message.content.partition("<")[0]) == told


def test_model_thinks_as_hard_as_its_template_can_say(client: Any) -> None:
    def message(effort: Any, model: str = "thinker") -> Any:
        asked: dict[str, Any] = {"messages": ask("x"), "reasoning_effort": effort}
        return client.chat.completions.create(model=model, **asked).choices[0].message

    assert message("low").content == "Quick."
    assert (message("high").content, message("high").reasoning_content) == ("Yes.", "Hm.")
    for effort, model in (("none", "thinker"), ("high", "caller"), ("high", "demo")):
        with pytest.raises(openai.BadRequestError) as caught:
            message(effort, model)
        assert caught.value.param == "reasoning_effort"


def test_reasoning_is_given_back_to_models_that_read_it(http: httpx.Client) -> None:
    def count(model: str, **message: str) -> int:
        messages = [*ask("x"), {"role": "assistant", "content": "Yes.", **message}, *ask("y")]
        found = http.post(
            "/v1/chat/completions", json={"model": model, "messages": messages, "max_tokens": 1}
        )
        return int(found.json()["usage"]["prompt_tokens"])

    assert count("thinker", reasoning_content="Hm.") > count("thinker")
    assert count("caller", reasoning_content="Hm.") == count("caller")


def test_formats(client: Any) -> None:
    class Capital(BaseModel):
        name: Literal["Berlin", "Paris"]

    asked: dict[str, Any] = {"model": "demo", "messages": ask("What is the capital of France?")}
    found = client.chat.completions.parse(response_format=Capital, **asked)
    assert found.choices[0].message.parsed.name in ("Berlin", "Paris")
    with client.chat.completions.stream(response_format=Capital, **asked) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.parsed == found.choices[0].message.parsed
    form: Any = {"type": "json_object"}
    started = client.chat.completions.create(response_format=form, max_tokens=3, **asked)
    assert started.choices[0].message.content.startswith("{")
    plain = client.chat.completions.create(model="demo", messages=SUM, response_format={"type": "text"})
    assert plain.choices[0].message.content == ANSWER


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"functions": [{}]}, "functions"),
    ({"audio": {"voice": "alloy"}}, "audio"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
    ({"verbosity": "low"}, "verbosity"),
    ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 50}, "top_logprobs"),
    ({"logprobs": 1}, "logprobs"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
    ({"max_tokens": [1], "max_completion_tokens": {}}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": 1}, "stream_options"),
    ({"stream": True, "stream_options": {"include_all": True}}, "stream_options.include_all"),
    ({"stream": "yes"}, "stream"),
    ({"stream": True, "top_p": 9}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": 100_000}, "n"),
    ({"n": 2, "seed": "x"}, "seed"),
    ({"n": 2, "seed": "x", "stream": True}, "seed"),
    ({"top_p": 9}, "top_p"),
    ({"temprature": 1}, "temprature"),
    ({"extra_body": {}}, "extra_body"),
    ({"timeout": "soon"}, "timeout"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"tool_choice": {"type": "custom"}}, "tool_choice"),
    ({"tools": [1]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
    ({"messages": "text"}, "messages"),
    ({"messages": ["text"]}, "messages[0]"),
    ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, "messages[0].tool_calls"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages",
    ),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"chat_template_kwargs": {"scene": 1}, "model": "demo"}, "chat_template_kwargs.scene"),
]


@pytest.mark.parametrize(("given", "param"), REFUSED, ids=str)
def test_what_the_host_cannot_do_is_refused_by_name(http: httpx.Client, given: Any, param: str) -> None:
    answer = http.post("/v1/chat/completions", json={"model": "demo", "messages": SUM, **given})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"].startswith(param) and error["message"].startswith(error["param"].split(".")[0])
    assert error["type"] == "invalid_request_error"


def test_nearest_name_is_told(http: httpx.Client) -> None:
    answer = http.post("/v1/chat/completions", json={"messages": SUM, "top_kk": 1})
    assert "did you mean top_k?" in answer.json()["error"]["message"]


def test_error_in_a_stream_is_the_sdks(client: Any) -> None:
    endless = {"ignore_eos": True, "timeout": 2}
    stream = client.chat.completions.create(
        model="demo", messages=SUM, stream=True, max_tokens=1000, extra_body=endless
    )
    assert next(stream).choices[0].delta.role == "assistant"
    with pytest.raises(openai.APIError) as caught:
        for _ in stream:
            pass
    assert caught.value.code == "timeout"
