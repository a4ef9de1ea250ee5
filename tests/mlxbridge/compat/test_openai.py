"""openai's client as a drop-in: its objects read by the original's types, and the examples of its documentation."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import openai as original
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

import mlxbridge
from mlxbridge.compat import openai
from mlxbridge.compat.openai import errors, parameters
from mlxbridge.compat.openai.raw_response import WithRawResponse
from tests.helpers import function_calling
from tests.helpers.on_loop import OnLoop
from tests.host.embeddings.checkpoints import save_model
from tests.host.engine.scripted import END, save_scripted_model
from tests.integration.hosts import HostProcess, run_host

REFERENCES = json.loads((Path(__file__).parents[2] / "host/embeddings/references.json").read_text())
CONFIG = """
default_model = "demo"
[models.demo]
aliases = ["gpt-5.2", "gpt-4o", "gpt-3.5-turbo", "gpt-3.5-turbo-instruct"]
[models.caller]
source = "{folder}/caller"
[models.finder]
source = "{folder}/finder"
aliases = ["text-embedding-3-small"]
"""
SCRIPTS = {
    "Weather?": [
        "<tool_call>",
        '{"name": "get_weather", "arguments": ',
        '{"city": "Tokyo"}}',
        "</tool_call>",
        END,
    ],
    "<think>": ["I look it up.", "</think>", "Well.", END],
    "<scene:result>": ["It rains ", "in Tokyo.", END],
    function_calling.QUESTION: function_calling.SCRIPT,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Tokyo", "Berlin"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
NAMES = [
    *("demo", "gpt-5.2", "gpt-4o", "gpt-3.5-turbo", "gpt-3.5-turbo-instruct"),
    *("caller", "finder", "text-embedding-3-small"),
]
ANSWER = "27 + 15 = 42."
SUM: list[Any] = [{"role": "user", "content": "What is 27 + 15?"}]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    folder = tmp_path_factory.mktemp("models")
    save_scripted_model(folder / "caller", SCRIPTS)
    save_model(folder / "finder", REFERENCES["models"]["bert"])
    config = folder / "config.toml"
    config.write_text(CONFIG.format(folder=folder))
    with run_host("unix", "--config", str(config), models=()) as running:
        yield running


def is_async(value: Any) -> bool:
    """Whether it belongs to the drop-in's ``AsyncOpenAI``."""
    return isinstance(value, WithRawResponse) or type(value).__module__ in (
        "mlxbridge.compat.openai.async_client",
        "mlxbridge.compat.openai.async_chat_stream",
    )


@pytest.fixture(params=["blocking", "asyncio"])
def client(request: pytest.FixtureRequest, host: HostProcess) -> Iterator[Any]:
    if request.param == "blocking":
        with openai.OpenAI(base_url=host.url, timeout=120) as made:
            yield made
        return
    with asyncio.Runner() as runner:
        wrapped = OnLoop(openai.AsyncOpenAI(base_url=host.url, timeout=120), runner, is_async)
        yield wrapped
        wrapped.close()


@pytest.fixture
def blocking(host: HostProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=host.url, timeout=120) as made:
        yield made


def read_as(kind: Any, ours: Any) -> Any:
    """Our object as the original's type, which knows all of its fields; and as JSON, and with all optional fields."""
    read = kind.model_validate(ours.to_dict(), strict=True)
    refuse_extra(read)
    assert read == kind.model_validate_json(ours.model_dump_json())
    assert read.to_dict() == ours.to_dict()
    same_fields(ours, read)
    return read


def same_fields(ours: Any, read: Any) -> None:
    """Each field has the value that the original has; those that it has besides, in one version or another, are None there."""
    if isinstance(read, list):
        for one, other in zip(ours, read, strict=True):
            same_fields(one, other)
    elif isinstance(read, BaseModel):
        for name in type(read).model_fields:
            if name in ours or name in ours.optional:
                same_fields(getattr(ours, name), getattr(read, name))
            else:
                assert getattr(read, name) is None
    else:
        assert ours == read


def refuse_extra(read: Any) -> None:
    if isinstance(read, BaseModel):
        assert not read.model_extra, f"{type(read).__name__} knows no {read.model_extra}"
        for name in type(read).model_fields:
            refuse_extra(getattr(read, name))
    elif isinstance(read, list):
        for one in read:
            refuse_extra(one)


def test_chat_is_what_openai_gives(client: Any) -> None:
    found = client.chat.completions.create(
        model="demo", messages=SUM, logprobs=True, top_logprobs=2, max_completion_tokens=50
    )
    read = read_as(ChatCompletion, found)
    assert read.choices[0].message.content == ANSWER == found["choices"][0]["message"]["content"]
    assert (read.model, read.object, read.choices[0].finish_reason) == ("demo", "chat.completion", "stop")
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    tokens = read.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == ANSWER
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in tokens)
    assert bytes(tokens[0].bytes).decode() == tokens[0].token
    message = found.choices[0].message
    assert (message.tool_calls, message.refusal, message.function_call) == (None, None, None)
    assert set(found.choices[0].model_dump()) == {"finish_reason", "index", "logprobs", "message"}
    assert json.loads(json.dumps(found)) == found.to_dict() == json.loads(found.to_json())
    assert found._request_id
    with pytest.raises(AttributeError, match="ChatCompletion has no 'chioces'"):
        _ = found.chioces


def test_tokens_that_are_not_counted_are_none(blocking: Any) -> None:
    details = blocking.completions.create(model="demo", prompt="x", max_tokens=1).usage.prompt_tokens_details
    assert (details.cached_tokens, details.audio_tokens, details["image_tokens"]) == (0, None, None)
    assert not hasattr(details, "audio")


def test_chunks_are_what_openai_gives(client: Any) -> None:
    found = list(
        client.chat.completions.create(
            model="gpt-4o", messages=SUM, stream=True, logprobs=True, stream_options={"include_usage": True}
        )
    )
    read = [read_as(ChatCompletionChunk, chunk) for chunk in found]
    assert {(chunk.id, chunk.model) for chunk in read} == {(found[0].id, "gpt-4o")}
    assert found[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in found[:-1]) == ANSWER
    assert [chunk.choices[0].finish_reason for chunk in found[:-1]][-2:] == [None, "stop"]
    assert found[-1].choices == [] and found[-1].usage.completion_tokens == 12
    assert found[0].usage is None
    told = [chunk.choices[0].logprobs for chunk in found[:-1] if chunk.choices[0].logprobs]
    assert "".join(token.token for one in told for token in one.content) == ANSWER


def test_several_answers(client: Any) -> None:
    asked: dict[str, Any] = {
        "model": "demo",
        "messages": SUM,
        "n": 3,
        "temperature": 2.0,
        "seed": 3,
        "max_tokens": 8,
    }
    found = client.chat.completions.create(**asked)
    texts = [choice.message.content for choice in found.choices]
    assert [choice.index for choice in found.choices] == [0, 1, 2] and len(set(texts)) > 1
    assert found.usage.prompt_tokens < 30 and found.usage.completion_tokens > 8
    parts = ["", "", ""]
    for chunk in client.chat.completions.create(**asked, stream=True):
        parts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert parts == texts


def test_tools(client: Any) -> None:
    messages: list[Any] = [{"role": "user", "content": "Weather?"}]
    asked: dict[str, Any] = {"model": "caller", "tools": [WEATHER], "reasoning_effort": "none"}
    found = client.chat.completions.create(messages=messages, **asked)
    read_as(ChatCompletion, found)
    (choice,) = found.choices
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "Tokyo"}

    messages.append(choice.message)  # as it came
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "rain"})
    assert (
        client.chat.completions.create(messages=messages, **asked).choices[0].message.content
        == "It rains in Tokyo."
    )

    chunks = list(client.chat.completions.create(messages=messages[:1], stream=True, **asked))
    for chunk in chunks:
        read_as(ChatCompletionChunk, chunk)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    (opened,), (told,) = [delta.tool_calls for delta in deltas if delta.tool_calls]
    assert (opened.index, opened.function.name, opened.function.arguments) == (0, "get_weather", "")
    assert (told.index, json.loads(told.function.arguments)) == (0, {"city": "Tokyo"})
    assert chunks[-1].choices[0].finish_reason == "tool_calls"

    chosen = {"type": "function", "function": {"name": "get_weather"}}
    forced = client.chat.completions.create(
        messages=[{"role": "user", "content": "x"}],
        **{**asked, "tool_choice": chosen},
        max_tokens=400,
        parallel_tool_calls=False,
    )
    assert forced.choices[0].message.tool_calls[0].function.name == "get_weather"


def test_openais_examples_of_function_calling(client: Any) -> None:
    asked = {"model": "caller", "reasoning_effort": "none"}
    assert function_calling.ask_and_answer(client, **asked).content == "It rains in Tokyo."
    (call,) = function_calling.gather(client, **asked).values()
    told = (call.function.name, json.loads(call.function.arguments))
    assert told == ("get_weather", function_calling.ARGUMENTS)


def test_strict_tool_is_kept_to_where_the_model_decides(blocking: openai.OpenAI) -> None:
    """Which would say Tokyo."""
    city = {"type": "object", "properties": {"city": {"enum": ["Rome"]}}, "required": ["city"]}
    strict = {"name": "get_weather", "parameters": {**city, "additionalProperties": False}, "strict": True}
    found = blocking.chat.completions.parse(
        model="caller",
        messages=[{"role": "user", "content": "Weather?"}],
        tools=[{"type": "function", "function": strict}],
        reasoning_effort="none",
    )
    assert found.choices[0].message.tool_calls[0].function.parsed_arguments == {"city": "Rome"}


def test_what_is_no_call_is_text_and_reasoning_has_a_field_of_its_own(client: Any) -> None:
    messages = [{"role": "user", "content": "Weather?"}]
    found = client.chat.completions.create(
        model="caller", messages=messages, tools=[WEATHER], max_tokens=2, reasoning_effort="none"
    )
    assert '{"name": "get_weather"' in found.choices[0].message.content
    assert (found.choices[0].finish_reason, found.choices[0].message.tool_calls) == ("length", None)
    thought = client.chat.completions.create(
        model="caller", messages=messages, extra_body={"reasoning": True}, stream=True
    )
    parts = [chunk.choices[0].delta for chunk in thought]
    assert "".join(part.get("reasoning_content", "") for part in parts) == "I look it up."
    assert "".join(part.content or "" for part in parts) == "Well."


def test_formats(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"enum": [1, 2]}},
        "required": ["n"],
        "additionalProperties": False,
    }
    given = {
        "type": "json_schema",
        "json_schema": {"name": "number", "description": "x", "schema": schema, "strict": True},
    }
    found = client.chat.completions.create(model="demo", messages=SUM, response_format=given)
    assert json.loads(found.choices[0].message.content)["n"] in (1, 2)
    text = client.chat.completions.create(model="demo", messages=SUM, response_format={"type": "text"})
    assert text.choices[0].message.content == ANSWER
    cut = client.chat.completions.create(
        model="demo", messages=SUM, response_format={"type": "json_object"}, max_tokens=3
    )
    assert cut.choices[0].message.content.startswith("{")


def test_parse_gives_objects(client: Any) -> None:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    asked: dict[str, Any] = {"model": "demo", "messages": messages, "response_format": Capital}
    found = client.chat.completions.parse(**asked)
    assert found.choices[0].message.parsed == Capital(name=found.choices[0].message.parsed.name)
    assert found.model_dump()["choices"][0]["message"]["parsed"]["name"] in ("Berlin", "Paris")
    assert client.beta.chat.completions.parse(**asked).choices[0].message.parsed.name
    with pytest.raises(openai.LengthFinishReasonError) as caught:
        client.chat.completions.parse(**asked, max_tokens=2)
    assert caught.value.completion.choices[0].finish_reason == "length"
    plain = client.chat.completions.parse(
        model="caller",
        messages=[{"role": "user", "content": "Weather?"}],
        tools=[WEATHER],
        reasoning_effort="none",
    )
    assert plain.choices[0].message.tool_calls[0].function.parsed_arguments == {"city": "Tokyo"}
    assert plain.choices[0].message.parsed is None


class Weather(BaseModel):
    """What the weather is."""

    city: Literal["Tokyo", "Berlin"]


class Capital(BaseModel):
    name: Literal["Berlin", "Paris"]


TOLD: list[tuple[dict[str, Any], set[str]]] = [
    (
        {"model": "demo", "messages": SUM, "logprobs": True, "stream_options": {"include_usage": True}},
        {"chunk", "content.delta", "content.done", "logprobs.content.delta", "logprobs.content.done"},
    ),
    (
        {"model": "gpt-4o", "messages": SUM, "n": 2},
        {"chunk", "content.delta", "content.done"},
    ),
    (
        {
            "model": "caller",
            "messages": [{"role": "user", "content": "Weather?"}],
            "tools": [original.pydantic_function_tool(Weather, name="get_weather")],
            "reasoning_effort": "none",
        },
        {
            "chunk",
            "content.delta",
            "tool_calls.function.arguments.delta",
            "tool_calls.function.arguments.done",
        },
    ),
    (
        {"model": "demo", "messages": SUM, "response_format": Capital},
        {"chunk", "content.delta", "content.done"},
    ),
]


@pytest.mark.parametrize(("asked", "kinds"), TOLD, ids=["text", "several", "tools", "object"])
def test_events_are_what_openai_gives(client: Any, asked: dict[str, Any], kinds: set[str]) -> None:
    """The original, given the same chunks, tells the same."""
    tools, form = asked.get("tools", original.omit), asked.get("response_format", original.omit)
    state: Any = ChatCompletionStreamState(input_tools=tools, response_format=form)
    theirs: list[Any] = []
    if "tools" in asked:
        asked = {**asked, "tools": [openai.pydantic_function_tool(Weather, name="get_weather")]}
    with client.chat.completions.stream(**asked) as stream:
        for event in stream:
            if event.type == "chunk":
                assert not theirs
                theirs += state.handle_chunk(read_as(ChatCompletionChunk, event.chunk))
                snapshot = theirs.pop(0).snapshot
                assert [choice.message.content for choice in event.snapshot.choices] == [
                    choice.message.content for choice in snapshot.choices
                ]
            else:
                told, expected = event.model_dump(), theirs.pop(0).model_dump(warnings=False)
                if event.type == "content.delta":  # an object comes whole
                    expected["parsed"] = None
                assert told == expected
            kinds = kinds - {event.type}
        final = stream.get_final_completion()
    assert not theirs and not kinds
    expected = state.get_final_completion()
    assert (final.id, final.model) == (expected.id, expected.model) and final.model == asked["model"]
    for mine, other in zip(final.choices, expected.choices, strict=True):
        assert mine.finish_reason == other.finish_reason
        assert (mine.message.content or "") == other.message.content
        assert mine.message.parsed == other.message.parsed
        assert [call.function.parsed_arguments for call in mine.message.tool_calls or ()] == [
            call.function.parsed_arguments for call in other.message.tool_calls or ()
        ]


def test_events_of_an_object_that_is_cut_end_with_openais_error(client: Any) -> None:
    asked: dict[str, Any] = {"model": "demo", "messages": SUM, "response_format": Capital, "max_tokens": 2}
    with client.chat.completions.stream(**asked) as stream, pytest.raises(openai.LengthFinishReasonError):
        stream.until_done()
    with client.chat.completions.stream(model="demo", messages=SUM) as left:
        next(left)
    with pytest.raises(openai.BadRequestError, match="closed before its end"):
        left.get_final_completion()


def test_arguments_are_objects_of_the_model_that_a_tool_was_made_of(client: Any) -> None:
    tool: Any = openai.pydantic_function_tool(Weather, name="get_weather")
    messages = [{"role": "user", "content": "Weather?"}]
    found = client.chat.completions.parse(
        model="caller", messages=messages, tools=[tool], reasoning_effort="none"
    )
    (call,) = found.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather)


def test_raw_responses_tell_what_is_beside_an_answer(client: Any) -> None:
    asked: dict[str, Any] = {"model": "demo", "messages": SUM}
    raw = client.chat.completions.with_raw_response.create(**asked)
    completion = raw.parse()
    assert completion.choices[0].message.content == ANSWER
    assert raw.headers["X-Request-Id"] == raw.headers.get("x-request-ID") == raw.request_id
    assert raw.request_id == completion._request_id and "X-REQUEST-ID" in raw.headers
    assert raw.status_code == 200 and json.loads(raw.text) == json.loads(raw.content) == completion.to_dict()
    raw = client.with_raw_response.embeddings.create(model="finder", input="A cat")
    assert len(raw.parse().data) == 1 and raw.request_id
    assert client.models.with_raw_response.list().parse().data[0].id == "demo"
    stream = client.chat.completions.with_raw_response.create(**asked, stream=True)
    assert "x-request-id" not in stream.headers and stream.request_id is None
    with pytest.raises(KeyError):
        stream.headers["x-request-id"]
    with pytest.raises(AttributeError, match="there is no 'http_version', for there is no HTTP"):
        _ = raw.http_version


def test_completions_are_what_openai_gives(client: Any) -> None:
    prompt = "The capital of France is"
    found = client.completions.create(model="demo", prompt=prompt, max_tokens=3, logprobs=2, temperature=0)
    read_as(Completion, found)
    told = found.choices[0].logprobs
    assert "".join(told.tokens) == found.choices[0].text and len(told.top_logprobs[0]) == 2
    assert [
        found.choices[0].text[at:][: len(token)]
        for at, token in zip(told.text_offset, told.tokens, strict=True)
    ] == told.tokens
    echoed = client.completions.create(model="demo", prompt=prompt, max_tokens=3, echo=True, temperature=0)
    assert echoed.choices[0].text == prompt + found.choices[0].text
    pieces = list(
        client.completions.create(
            model="demo", prompt=prompt, max_tokens=3, stream=True, temperature=0, logprobs=0
        )
    )
    for piece in pieces[
        :-1
    ]:  # the original's type has a reason for each, which the original's server leaves out
        refuse_extra(Completion.model_construct(**piece.to_dict()))
    assert "".join(piece.choices[0].text for piece in pieces) == found.choices[0].text
    assert pieces[-1].choices[0].finish_reason == "length"
    assert [
        piece.choices[0].logprobs.text_offset[0] for piece in pieces if piece.choices[0].logprobs
    ] == told.text_offset


def test_completions_of_several_prompts(client: Any) -> None:
    with mlxbridge.Client(client.base_url) as other:
        ids = other.tokenize("Once upon", model="demo")
    found = client.completions.create(
        model="demo", prompt=["The capital of", ids], n=2, max_tokens=3, echo=False
    )
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    assert found.choices[0].text == found.choices[1].text != found.choices[2].text == found.choices[3].text
    assert found.usage.completion_tokens == 12
    count = "<|user|>Count from 1 to 20.<|end|><|assistant|>"
    assert client.completions.create(model="demo", prompt=count).usage.completion_tokens == 16


def test_embeddings_are_what_openai_gives(client: Any) -> None:
    found = client.embeddings.create(model="finder", input=["A cat", "A dog"])
    read = read_as(CreateEmbeddingResponse, found)
    assert len(read.data) == 2 and len(read.data[0].embedding) == 32
    coded = client.embeddings.create(model="finder", input="A cat", encoding_format="base64", dimensions=None)
    numbers = struct.unpack("<32f", base64.b64decode(coded.data[0].embedding))
    assert list(numbers) == pytest.approx(read.data[0].embedding, abs=1e-6)
    assert coded.usage.prompt_tokens == coded.usage.total_tokens > 0


def test_models_are_what_openai_gives(client: Any) -> None:
    page = client.models.list()
    assert [read_as(Model, model).id for model in page] == NAMES
    assert page.data[0].owned_by == page["data"][0]["owned_by"] == "mlxbridge"
    assert client.models.retrieve("gpt-4o").id == "gpt-4o"
    with pytest.raises(openai.NotFoundError, match="it has demo, caller, finder"):
        client.models.retrieve("davinci")


def test_list_of_models_may_be_iterated_over(host: HostProcess) -> None:
    async def names() -> list[str]:
        async with openai.AsyncOpenAI(base_url=host.url) as client:
            return [model.id async for model in client.models.list()]

    assert asyncio.run(names()) == NAMES


NAMED = {"type": "function", "function": {"name": "f"}}
LABELLED = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"functions": [{}]}, "functions"),
    ({"audio": {"voice": "alloy"}}, "audio"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"prediction": {"type": "content"}}, "prediction"),
    ({"verbosity": "low"}, "verbosity"),
    ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 50}, "top_logprobs"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_all": True}}, "stream_options.include_all"),
    ({"stream": True, "stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"n": 0}, "n"),
    ({"top_p": 9}, "top_p"),
    ({"temprature": 1}, "temprature"),
    ({"extra_body": {"top_kk": 1}}, "top_kk"),
    ({"extra_headers": {"x": "y"}}, "extra_headers"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"1_0": 1}}, "logit_bias"),
    ({"logprobs": 0}, "logprobs"),
    ({"stop": {"x": 1}}, "stop"),
    ({"tool_choice": {"type": "custom"}}, "tool_choice"),
    ({"tool_choice": {**NAMED, "mode": "auto"}}, "tool_choice.mode"),
    (
        {"tool_choice": {"type": "function", "function": {"name": "f", "strict": True}}},
        "tool_choice.function",
    ),
    ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "f"}, "cache": 1}]}, "tools[0].cache"),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "returns": {}}}]},
        "tools[0].function.returns",
    ),
    ({"tools": [{"type": "function", "function": {"name": "f", "strict": 1}}]}, "tools[0].function.strict"),
    ({"messages": "text"}, "messages"),
    ({"messages": ["text"]}, "messages[0]"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages",
    ),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"response_format": {"type": "text", "schema": {}}}, "response_format.schema"),
    ({"response_format": {**LABELLED, "strict": True}}, "response_format.strict"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "shema": {}}}},
        "response_format.json_schema.shema",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "strict": "yes"}}},
        "response_format.json_schema.strict",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "description": 5}}},
        "response_format.json_schema.description",
    ),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"response_format": [str]}, "response_format"),
    ({"seed": "7"}, "seed"),
    ({"seed": "7", "stream": True}, "seed"),
    ({"n": 2000, "stream": True}, "n"),
    ({"stream": True, "stream_options": "include_usage"}, "stream_options"),
    ({"max_tokens": 0, "max_completion_tokens": original.NOT_GIVEN}, "max_tokens"),
    ({"max_tokens": [5], "max_completion_tokens": [5]}, "max_completion_tokens"),
    ({"extra_body": "top_k"}, "extra_body"),
    ({"extra_body": {"n": 2}}, "n"),
    ({"extra_body": {"stream": True}}, "stream"),
    ({"extra_body": {"prompt": "x"}}, "prompt"),
    ({"extra_body": {5: 5}}, "5"),
    ({"messages": [{"role": "assistant", "tool_calls": ["now"]}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "assistant", "tool_calls": 5}]}, "messages[0].tool_calls"),
]


@pytest.mark.parametrize(("given", "param"), REFUSED, ids=str)
def test_what_the_host_cannot_do_is_refused_by_name(blocking: Any, given: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        answer = blocking.chat.completions.create(**{"model": "demo", "messages": SUM, **given})
        list(answer)
    error = caught.value
    assert str(error.param).startswith(param) and error.status_code == 400
    assert error.body["param"] == error.param and error.type == "invalid_request_error"
    assert isinstance(error.__cause__, mlxbridge.BridgeError)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mesages": SUM}, "mesages: there is no such field; did you mean messages?"),
        (
            {"messages": SUM, "top_k": 3},
            "top_k: openai has no such parameter; those of the host go into extra_body",
        ),
    ],
)
def test_wrong_name_is_told_before_what_it_lacks(
    blocking: openai.OpenAI, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        blocking.chat.completions.create(model="demo", **given)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"prompt": "x", "suffix": "y"}, "suffix"),
        ({"prompt": "x", "best_of": 3}, "best_of"),
        ({"prompt": "x", "echo": True, "logprobs": 1}, "echo"),
        ({"prompt": [1], "echo": True}, "echo"),
        ({"prompt": []}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": ["x"] * 1025}, "prompt"),
        ({"prompt": ["x"] * 600, "n": 2}, "n"),
    ],
)
def test_so_it_is_of_completions(blocking: Any, given: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        blocking.completions.create(model="demo", **given)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({}, "input"),
        ({"input": "x", "colour": 1}, "colour"),
        ({"input": "x", "extra_body": "normalize"}, "extra_body"),
        ({"input": "x", "extra_body": {"inputs": "y"}}, "inputs"),
    ],
)
def test_and_of_embeddings(blocking: Any, given: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        blocking.embeddings.create(model="finder", **given)
    assert caught.value.param == param


def test_every_parameter_of_the_original_is_taken_or_refused_for_a_reason() -> None:
    """What is neither would be refused as unknown, which it is not."""
    from openai.resources.chat.completions import Completions as ChatCompletions
    from openai.resources.completions import Completions as TextCompletions

    for resource, plan, needed in (
        (ChatCompletions, parameters.chat_plan, {"messages": SUM}),
        (TextCompletions, parameters.completion_plan, {"prompt": "x"}),
    ):
        method: Any = resource.create
        for name in set(inspect.signature(method).parameters) - {"self", *needed}:
            given: dict[str, Any] = {"stream_options": {}, "extra_body": {}, "logprobs": 1}
            value = given.get(name, "auto")
            with_stream = {"stream": True} if name == "stream_options" else {}
            try:
                plan({**needed, **with_stream, name: value})
            except mlxbridge.UsageError as error:
                assert "there is no such" not in error.message, name


def test_what_changes_nothing_is_taken(blocking: Any) -> None:
    harmless = {
        "user": "me",
        "store": True,
        "metadata": {"a": "b"},
        "safety_identifier": "me",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "service_tier": "auto",
        "modalities": ["text"],
        "extra_headers": None,
        "presence_penalty": original.NOT_GIVEN,
        "frequency_penalty": openai.NOT_GIVEN,
        "seed": None,
        "reasoning_effort": None,
    }
    assert set(parameters.HARMLESS) < set(harmless)
    developer = [{"role": "developer", "content": "Answer briefly."}, *SUM]
    found = blocking.chat.completions.create(model="demo", messages=developer, **harmless)
    assert found.choices[0].message.content == ANSWER


def test_settings_of_a_call_reach_the_host(blocking: Any) -> None:
    found = blocking.chat.completions.create(model="demo", messages=SUM, stop=["="], logit_bias={"22": -1})
    assert found.choices[0].message.content == "27 + 15 "
    biased = blocking.chat.completions.create(
        model="demo", messages=SUM, logit_bias={"22": -100}, frequency_penalty=0.5, presence_penalty=0.5
    )
    assert biased.choices[0].message.content != ANSWER
    short = blocking.chat.completions.create(
        model="demo", messages=SUM, extra_body={"min_p": 0.5, "top_k": 1}, max_tokens=2
    )
    assert short.choices[0].finish_reason == "length"


def test_errors_are_openais(blocking: Any, host: HostProcess) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        blocking.chat.completions.create(model="gpt-9", messages=SUM)
    assert (missing.value.status_code, missing.value.code) == (404, "model_not_found")
    with pytest.raises(openai.APITimeoutError):
        blocking.with_options(timeout=0.0001).chat.completions.create(model="demo", messages=SUM)
    with pytest.raises(openai.BadRequestError) as long:
        blocking.chat.completions.create(model="demo", messages=SUM, max_tokens=5000)
    assert long.value.code == "context_length_exceeded"
    stranger = openai.OpenAI(base_url=host.url, api_key="guest:secret-of-guest")
    with pytest.raises(openai.AuthenticationError, match="the host has none"):
        stranger.models.list()
    nobody = openai.OpenAI(base_url="unix:///nowhere/at/all.sock", max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        nobody.models.list()
    stream = blocking.chat.completions.create(model="demo", messages=SUM, stream=True, timeout=0.0001)
    with pytest.raises(openai.APITimeoutError):
        list(stream)


def test_errors_have_the_names_and_the_tree_of_the_original() -> None:
    for name, kind in vars(errors).items():
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            continue
        theirs = getattr(original, name)
        mine = [base.__name__ for base in kind.__mro__]
        assert mine == [base.__name__ for base in theirs.__mro__], name
        assert getattr(openai, name) is kind
        if isinstance(status := getattr(theirs, "status_code", None), int):
            assert kind.status_code == status


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (mlxbridge.Overloaded("full"), openai.RateLimitError, 429),
        (mlxbridge.Unavailable("draining"), openai.InternalServerError, 503),
        (mlxbridge.WorkerLost("gone"), openai.InternalServerError, 503),
        (mlxbridge.InternalError("bug"), openai.InternalServerError, 500),
        (mlxbridge.AuthenticationError("who"), openai.AuthenticationError, 401),
        (mlxbridge.PermissionDenied("no"), openai.PermissionDeniedError, 403),
    ],
)
def test_errors_of_hosts_have_the_status_that_http_has(error: Any, kind: Any, status: int) -> None:
    made: Any = errors.translate(error)
    assert type(made) is kind and made.status_code == status and made.message == error.message


def test_max_retries_is_the_hosts_retry(blocking: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    retries = []
    stream = blocking._client.stream

    def note(*args: Any, retry: int, **options: Any) -> Any:
        retries.append(retry)
        return stream(*args, retry=retry, **options)

    monkeypatch.setattr(blocking._client, "stream", note)
    for client in (blocking, blocking.with_options(max_retries=7)):
        list(client.chat.completions.create(model="demo", messages=SUM, stream=True))
    assert retries == [2, 7]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"base_url": "http://localhost:8080/v1"}, "base_url"),
        ({"default_headers": {"a": "b"}}, "default_headers"),
        ({"http_client": object()}, "http_client"),
        ({"max_retries": -1}, "max_retries"),
        ({"api_key": lambda: "key"}, "api_key"),
        ({"base_url": b"unix:///s"}, "base_url"),
    ],
)
def test_client_refuses_what_has_no_meaning(given: dict[str, Any], param: str) -> None:
    for kind in (openai.OpenAI, openai.AsyncOpenAI):
        with pytest.raises(openai.BadRequestError) as caught:
            kind(**given)
        assert caught.value.param == param


def test_timeout_is_the_clients_unless_a_call_says_otherwise(blocking: openai.OpenAI) -> None:
    hasty = blocking.with_options(timeout=1e-6, max_retries=0)
    calls: list[Any] = [
        lambda **given: hasty.chat.completions.create(model="demo", messages=SUM, **given),
        lambda **given: hasty.embeddings.create(model="finder", input="x", **given),
        lambda **given: hasty.models.list(**given),
        lambda **given: hasty.models.retrieve("demo", **given),
    ]
    for call in calls:
        for given in ({}, {"timeout": original.NOT_GIVEN}):
            with pytest.raises(openai.APITimeoutError):
                call(**given)
        call(timeout=None)  # which is none at all, as openai's
        call(timeout=60)


def test_seeds_go_round_where_numbers_end(blocking: openai.OpenAI) -> None:
    given: dict[str, Any] = {"model": "demo", "messages": SUM, "temperature": 1.5, "seed": 2**64 - 1, "n": 2}
    whole = blocking.chat.completions.create(**given)
    texts = ["", ""]
    for chunk in blocking.chat.completions.create(**given, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]


@pytest.mark.parametrize("name", ["default_headers", "http_client", "api_type"])
def test_settings_of_the_module_are_refused_as_a_clients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, name, {"a": "b"}, raising=False)
    calls: list[Any] = [
        lambda: openai.chat.completions.create(model="demo", messages=SUM),
        lambda: openai.ChatCompletion.create(model="demo", messages=SUM),
        lambda: asyncio.run(openai.ChatCompletion.acreate(model="demo", messages=SUM)),
    ]
    for call in calls:
        with pytest.raises(openai.BadRequestError) as caught:
            call()
        assert caught.value.param == name


@pytest.mark.parametrize(
    "given", [httpx.Timeout(60, read=1e-6), openai.Timeout(60, read=1e-6), openai.Timeout(1e-6)]
)
def test_timeout_may_be_httpxs(blocking: openai.OpenAI, given: Any) -> None:
    with pytest.raises(openai.APITimeoutError):
        blocking.with_options(timeout=given, max_retries=0).models.list()
    with pytest.raises(openai.APITimeoutError):
        blocking.chat.completions.create(model="demo", messages=SUM, timeout=given)
    assert blocking.with_options(timeout=openai.Timeout(None)).models.list().data


def test_options_share_the_connection(blocking: openai.OpenAI) -> None:
    other = blocking.with_options(timeout=5, max_retries=0)
    assert (other.timeout, other.max_retries, other.base_url) == (5, 0, blocking.base_url)
    assert other._client is blocking._client
    assert blocking.copy(organization="me")._client is not blocking._client


def test_stream_that_is_left_ends_the_call(blocking: openai.OpenAI) -> None:
    with blocking.chat.completions.create(model="demo", messages=SUM, stream=True) as stream:
        next(stream)
    assert list(stream) == []


def run_example(code: str, host: HostProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXBRIDGE_URL", host.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-of-openai")
    for name in ("api_key", "timeout"):  # which examples set
        monkeypatch.setattr(openai, name, getattr(openai, name))
    changed = code.replace("from openai import", "from mlxbridge.compat.openai import")
    changed = changed.replace("import openai\n", "from mlxbridge.compat import openai\n")
    assert changed != code
    exec(compile(changed, "example", "exec"), {"__name__": "__main__"})


EXAMPLES = {
    "chat": (
        """
import os
from openai import OpenAI

client = OpenAI(
    api_key=os.environ.get("OPENAI_API_KEY"),
)

completion = client.chat.completions.create(
    model="gpt-5.2",
    messages=[
        {"role": "developer", "content": "Talk like a pirate."},
        {
            "role": "user",
            "content": "What is 27 + 15?",
        },
    ],
)

print(completion.choices[0].message.content)
""",
        ANSWER,
    ),
    "async": (
        """
import os
import asyncio
from openai import AsyncOpenAI

client = AsyncOpenAI(
    api_key=os.environ.get("OPENAI_API_KEY"),
)


async def main() -> None:
    response = await client.chat.completions.create(
        model="gpt-5.2", messages=[{"role": "user", "content": "What is 27 + 15?"}]
    )
    print(response.choices[0].message.content)
    await client.close()


asyncio.run(main())
""",
        ANSWER,
    ),
    "stream": (
        """
from openai import OpenAI

client = OpenAI()

stream = client.chat.completions.create(
    model="gpt-5.2",
    messages=[{"role": "user", "content": "What is 27 + 15?"}],
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="")
""",
        ANSWER,
    ),
    "async stream": (
        """
import asyncio
from openai import AsyncOpenAI


async def main():
    async with AsyncOpenAI() as client:
        stream = await client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "What is 27 + 15?"}],
            stream=True,
        )
        async for chunk in stream:
            print(chunk.choices[0].delta.content or "", end="")


asyncio.run(main())
""",
        ANSWER,
    ),
    "json": (
        """
from openai import OpenAI

client = OpenAI()

completion = client.chat.completions.create(
    messages=[
        {
            "role": "user",
            "content": "Can you generate an example json object describing a fruit?",
        }
    ],
    model="gpt-4o",
    response_format={"type": "json_object"},
    max_tokens=5,
)
print(completion.choices[0].message.content)
""",
        "{",
    ),
    "completion": (
        """
from openai import OpenAI

client = OpenAI()
response = client.completions.create(
    model="gpt-3.5-turbo-instruct",
    prompt="The capital of France is",
    max_tokens=2,
    temperature=0
)
print(response.object, response.usage.completion_tokens)
""",
        "text_completion 2",
    ),
    "embeddings": (
        """
from openai import OpenAI
client = OpenAI()

response = client.embeddings.create(
    input="Your text string goes here",
    model="text-embedding-3-small"
)

print(len(response.data[0].embedding))
""",
        "32",
    ),
    "models": (
        """
from openai import OpenAI
client = OpenAI()

print([model.id for model in client.models.list()])
""",
        str(NAMES),
    ),
    "errors": (
        """
import openai
from openai import OpenAI

client = OpenAI(max_retries=0, timeout=20.0)

try:
    client.with_options(max_retries=5).chat.completions.create(
        model="gpt-9",
        messages=[{"role": "user", "content": "Say this is a test"}],
    )
except openai.APIConnectionError as e:
    print("The server could not be reached")
    print(e.__cause__)
except openai.RateLimitError as e:
    print("A 429 status code was received; we should back off a bit.")
except openai.APIStatusError as e:
    print("Another non-200-range status code was received")
    print(e.status_code)
    print(e.response)
""",
        "404\nNone",
    ),
    "module": (
        """
import openai

# optional; defaults to `os.environ['OPENAI_API_KEY']`
openai.api_key = "sk-..."

# all client options can be configured just like the `OpenAI` instantiation counterpart
openai.timeout = 60.0

completion = openai.chat.completions.create(
    model="gpt-4o",
    messages=[
        {
            "role": "user",
            "content": "What is 27 + 15?",
        },
    ],
    temperature=openai.omit,
)
print(completion.choices[0].message.content, len(openai.models.list().data))
print(openai.completions.create(model="gpt-4o", prompt="The capital of", max_tokens=2).usage.completion_tokens)
print(len(openai.embeddings.create(model="text-embedding-3-small", input="x").data))
""",
        f"{ANSWER} {len(NAMES)}\n2\n1",
    ),
    "old chat": (
        """
import openai

openai.api_key = "sk-..."

completion = openai.ChatCompletion.create(
    model="gpt-3.5-turbo", messages=[{"role": "user", "content": "What is 27 + 15?"}], request_timeout=60
)
print(completion.choices[0].message.content)
print(completion["choices"][0]["message"]["content"])
""",
        f"{ANSWER}\n{ANSWER}",
    ),
    "old stream": (
        """
import openai

for chunk in openai.ChatCompletion.create(
    model="gpt-3.5-turbo",
    messages=[{"role": "user", "content": "What is 27 + 15?"}],
    stream=True,
):
    content = chunk["choices"][0].get("delta", {}).get("content")
    if content is not None:
        print(content, end="")
""",
        ANSWER,
    ),
    "old async": (
        """
import asyncio
import openai


async def main():
    completion = await openai.ChatCompletion.acreate(
        model="gpt-3.5-turbo", messages=[{"role": "user", "content": "What is 27 + 15?"}]
    )
    print(completion.choices[0].message.content)
    async for chunk in await openai.ChatCompletion.acreate(
        model="gpt-3.5-turbo", messages=[{"role": "user", "content": "What is 27 + 15?"}], stream=True
    ):
        print(chunk.choices[0].delta.get("content", ""), end="")


asyncio.run(main())
""",
        f"{ANSWER}\n{ANSWER}",
    ),
    "old others": (
        """
import openai

print(len(openai.Embedding.create(input="text", model="text-embedding-3-small")["data"][0]["embedding"]))
print(openai.Completion.create(engine="gpt-3.5-turbo-instruct", prompt="The capital of", max_tokens=2)["usage"]["completion_tokens"])
print(openai.Model.list()["data"][0]["id"], openai.Model.retrieve("gpt-4o").id)
""",
        "32\n2\ndemo gpt-4o",
    ),
}
"""As openai's README, guides and the README of version 0.28 have them, but for what is asked."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs_with_one_import_changed(
    name: str, host: HostProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, expected = EXAMPLES[name]
    run_example(code, host, monkeypatch)
    assert expected in capsys.readouterr().out
