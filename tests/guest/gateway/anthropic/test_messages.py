"""Anthropic's own client, and what is like it, over a real socket: a gateway in front of a host with real models."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from pydantic import BaseModel

from mlxbridge import Client
from mlxbridge.guest.gateway.callers import add_caller, make_key
from tests.guest.gateway.gateways import GatewayProcess, run_gateway
from tests.host.engine.scripted import save_scripted_model
from tests.integration.hosts import HostProcess, run_host
from tests.integration.test_tools import SCRIPTS

SUM: list[Any] = [{"role": "user", "content": "What is 27 + 15?"}]
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather of today.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
ASKED: list[Any] = [{"role": "user", "content": "Weather?"}]
FOREVER = {"chat_template_kwargs": {"scene": "<scene:forever>"}}
CONFIG = """
[models.demo]
source = "demo"
aliases = ["claude-haiku-4-5"]
max_batch = 1
max_waiting = 1
[models.caller]
source = "{folder}/caller"
aliases = ["claude-sonnet-4-6"]
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    folder: Path = tmp_path_factory.mktemp("models")
    save_scripted_model(folder / "caller", SCRIPTS)
    (folder / "config.toml").write_text(CONFIG.format(folder=folder))
    with run_host("unix", "--config", str(folder / "config.toml"), models=()) as host:
        yield host


@pytest.fixture(scope="module")
def gateway(host: HostProcess) -> Iterator[GatewayProcess]:
    with run_gateway(host.url) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key="any", max_retries=0, timeout=120) as client:
        yield client


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


# -- answers


def test_answer_is_a_message(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model="demo", max_tokens=40, messages=SUM)
    assert text_of(message) == "27 + 15 = 42."
    assert (message.model, message.role, message.type) == ("demo", "assistant", "message")
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert message.usage.input_tokens > 5 and message.usage.output_tokens == 12
    assert message._request_id is not None


async def test_async_client_gets_the_same(gateway: GatewayProcess) -> None:
    async with anthropic.AsyncAnthropic(base_url=gateway.url, auth_token="any", timeout=120) as client:
        message = await client.messages.create(model="demo", max_tokens=40, messages=SUM)
        async with client.messages.stream(model="demo", max_tokens=40, messages=SUM) as stream:
            texts = [text async for text in stream.text_stream]
        assert "".join(texts) == text_of(message) == "27 + 15 = 42."
        assert len(texts) > 5
        counted = await client.messages.count_tokens(model="demo", messages=SUM)
        assert counted.input_tokens == message.usage.input_tokens


def test_stream_ends_with_the_same_message(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(model="claude-haiku-4-5", max_tokens=40, messages=SUM)
    with client.messages.stream(model="claude-haiku-4-5", max_tokens=40, messages=SUM) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    same = ("model", "stop_reason", "stop_sequence", "usage")
    assert [getattr(final, name) for name in same] == [getattr(whole, name) for name in same]
    assert final.model == "claude-haiku-4-5"
    assert text_of(final) == text_of(whole)


def test_events_are_server_sent_events(gateway: GatewayProcess) -> None:
    body = {"model": "demo", "max_tokens": 5, "messages": SUM, "stream": True}
    answer = httpx.post(f"{gateway.url}/v1/messages?beta=true", json=body, timeout=60)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    names = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert names[:3] == ["message_start", "ping", "content_block_start"]
    assert set(names[3:-3]) == {"content_block_delta"}
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_system_and_blocks_are_read(client: anthropic.Anthropic) -> None:
    def count(content: Any, **more: Any) -> int:
        chat: list[Any] = [{"role": "user", "content": content}]
        return client.messages.count_tokens(model="demo", messages=chat, **more).input_tokens

    hello = count("Hello")
    assert count([{"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}}]) == hello
    assert (
        count("Hello", system="Be kind.")
        == count("Hello", system=[{"type": "text", "text": "Be kind."}])
        > hello
    )


def test_stop_sequence_is_told(client: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {
        "model": "demo",
        "max_tokens": 40,
        "messages": SUM,
        "stop_sequences": ["x", " ="],
    }
    message = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        final = stream.get_final_message()
    for one in (message, final):
        assert (text_of(one), one.stop_reason, one.stop_sequence) == ("27 + 15", "stop_sequence", " =")


def test_answer_that_is_cut_says_so(client: anthropic.Anthropic) -> None:
    assert client.messages.create(model="demo", max_tokens=3, messages=SUM).stop_reason == "max_tokens"


def test_answer_goes_on_as_far_as_the_context_reaches(client: anthropic.Anthropic) -> None:
    """More is asked for than the models' contexts hold: 1024 tokens, and 4096."""
    message = client.messages.create(model="demo", max_tokens=32_000, messages=SUM)
    assert message.stop_reason == "end_turn"
    long: list[Any] = [{"role": "user", "content": "x" * 3990}]
    asked: dict[str, Any] = {"model": "caller", "messages": long, "extra_body": FOREVER}
    room = 4096 - client.messages.count_tokens(**asked).input_tokens
    assert 0 < room < 100
    with client.messages.stream(**asked, max_tokens=32_000) as stream:
        final = stream.get_final_message()
    assert (final.stop_reason, final.usage.output_tokens) == ("model_context_window_exceeded", room)


def test_sampling_and_the_hosts_own_options_are_taken(client: anthropic.Anthropic) -> None:
    body: dict[str, Any] = {"temperature": 20.0, "top_p": 1, "top_k": 50, "min_p": 0}
    chat: list[Any] = [{"role": "user", "content": "What is 2 + 3?"}]
    told = [
        text_of(
            client.messages.create(
                model="demo", max_tokens=30, messages=chat, extra_body=body | {"seed": seed}
            )
        )
        for seed in (5, 5, 6, 7, 8)
    ]
    assert told[0] == told[1] and len(set(told)) > 1


class Total(BaseModel):
    total: int


def test_answer_keeps_to_a_schema(client: anthropic.Anthropic) -> None:
    message = client.messages.parse(model="demo", max_tokens=60, messages=SUM, output_format=Total)
    assert isinstance(message.parsed_output, Total)
    beta = client.beta.messages.parse(model="demo", max_tokens=60, messages=SUM, output_format=Total)
    assert isinstance(beta.parsed_output, Total)


# -- thinking and tools


@pytest.mark.parametrize(
    ("thinking", "thought"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, "I must look."),
        ({"type": "enabled", "budget_tokens": 2}, "I must "),
        ({"type": "adaptive"}, "I must look."),
        ({"type": "adaptive", "display": "omitted"}, ""),
        ({"type": "disabled"}, None),
    ],
)
def test_thinking_comes_in_blocks_of_its_own(
    client: anthropic.Anthropic, thinking: Any, thought: str | None
) -> None:
    asked: dict[str, Any] = {"model": "caller", "max_tokens": 60, "thinking": thinking, "tools": [WEATHER]}
    chat: list[Any] = [{"role": "user", "content": "<think>"}]
    whole = client.messages.create(messages=chat, **asked)
    with client.messages.stream(messages=chat, **asked) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        found = [getattr(block, "thinking", None) for block in message.content if block.type == "thinking"]
        assert found == ([] if thought is None else [thought])
        assert text_of(message) == "Let me see. "
        assert message.stop_reason == "tool_use"


def test_model_that_does_not_think_is_asked_all_the_same(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model="demo", max_tokens=40, messages=SUM, thinking={"type": "adaptive"})
    assert [block.type for block in message.content] == ["text"]
    with pytest.raises(anthropic.BadRequestError, match="thinking"):
        client.messages.create(
            model="demo", max_tokens=40, messages=SUM, thinking={"type": "enabled", "budget_tokens": 5}
        )


def test_tools_are_called_and_answered(client: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {"model": "claude-sonnet-4-6", "max_tokens": 60, "tools": [WEATHER]}
    with client.messages.stream(messages=ASKED, thinking={"type": "adaptive"}, **asked) as stream:
        events = [event for event in stream if event.type == "input_json"]
        first = stream.get_final_message()
    (call,) = [block for block in first.content if block.type == "tool_use"]
    assert (call.name, call.input, first.stop_reason) == ("get_weather", {"city": "東京"}, "tool_use")
    assert events[-1].snapshot == {"city": "東京"}
    results: list[Any] = [
        {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "rain"}]}
    ]
    chat: list[Any] = [
        *ASKED,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": results},
    ]
    answer = client.messages.create(messages=chat, **asked)
    assert (text_of(answer), answer.stop_reason) == ("It rains.", "end_turn")


def test_runner_of_anthropics_client_runs_tools(client: anthropic.Anthropic) -> None:
    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather of today.

        Args:
            city: its name.
        """
        cities.append(city)
        return "rain"

    cities: list[str] = []
    runner = client.beta.messages.tool_runner(
        model="caller", max_tokens=60, messages=[{"role": "user", "content": "<think>"}], tools=[get_weather]
    )
    last = runner.until_done()
    assert cities == ["東京"]
    assert [block.text for block in last.content if block.type == "text"] == ["It rains."]


STRICT: Any = {
    **WEATHER,
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["京都"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_call_that_has_to_be(client: anthropic.Anthropic, choice: Any) -> None:
    single: Any = {**choice, "disable_parallel_tool_use": True}
    message = client.messages.create(
        model="caller", max_tokens=60, messages=ASKED, tools=[STRICT], tool_choice=single
    )
    (call,) = message.content
    assert call.type == "tool_use" and call.input == {"city": "京都"}


def test_strict_tool_is_kept_to_where_the_model_decides(client: anthropic.Anthropic) -> None:
    """It thinks and speaks as ever, and would say another city."""
    asked: Any = {"model": "caller", "max_tokens": 60, "messages": ASKED, "thinking": {"type": "adaptive"}}
    with client.messages.stream(tools=[STRICT], **asked) as stream:
        streamed = stream.get_final_message()
    for message in (client.messages.create(tools=[STRICT], **asked), streamed):
        thought, said, call = (block.to_dict() for block in message.content)
        assert (thought["thinking"], said["text"]) == ("I must look.", "Let me see. ")
        assert (call["type"], call["input"]) == ("tool_use", {"city": "京都"})


# -- what coding agents send


def test_agents_request_is_answered(gateway: GatewayProcess) -> None:
    """All that Claude Code puts into one."""
    body = {
        "model": "claude-sonnet-4-6",
        "max_tokens": 32_000,
        "stream": True,
        "temperature": 1,
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.252; cch=fa690;"},
            {"type": "text", "text": "You write code.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "<system-reminder>\nBe brief.\n</system-reminder>"},
                    {"type": "text", "text": "Weather?", "cache_control": {"type": "ephemeral"}},
                ],
            },
            {"role": "system", "content": "<total_tokens>200000 tokens left</total_tokens>"},
        ],
        "tools": [
            {
                "name": "get_weather",
                "description": "The weather of today.",
                "input_schema": {
                    "$schema": "https://json-schema.org/draft/2020-12/schema",
                    "type": "object",
                    "properties": {"city": {"type": "string", "description": "its name"}},
                    "required": ["city"],
                    "additionalProperties": False,
                },
                "eager_input_streaming": True,
                "cache_control": {"type": "ephemeral"},
            }
        ],
        "metadata": {"user_id": json.dumps({"device_id": "d", "session_id": "s"})},
        "thinking": {"type": "adaptive", "budget_tokens": 0},
        "output_config": {"effort": "medium"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "betas": ["interleaved-thinking-2025-05-14"],
    }
    headers = {
        "authorization": "Bearer any",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "claude-code-20250219,context-management-2025-06-27",
        "anthropic-dangerous-direct-browser-access": "true",
        "x-app": "cli",
        "user-agent": "claude-cli/2.1.252 (external, cli)",
        "x-claude-code-session-id": "s",
        "x-stainless-retry-count": "0",
    }
    answer = httpx.post(f"{gateway.url}/v1/messages?beta=true", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    assert '"name":"get_weather"' in answer.text and '"stop_reason":"tool_use"' in answer.text
    counting = {name: body[name] for name in ("model", "messages", "tools", "system", "thinking")}
    counted = httpx.post(
        f"{gateway.url}/v1/messages/count_tokens?beta=true", json=counting, headers=headers, timeout=60
    )
    assert counted.json()["input_tokens"] > 100


def test_prefix_of_a_chat_is_found_again(client: anthropic.Anthropic) -> None:
    """Though an agent's first block is another one each time."""

    def ask(number: int) -> anthropic.types.Message:
        blocks: list[Any] = [
            {"type": "text", "text": f"x-anthropic-billing-header: cch={number};"},
            {"type": "text", "text": "You answer briefly. " * 20},
        ]
        return client.messages.create(model="demo", max_tokens=4, messages=SUM, system=blocks)

    first, second = ask(1), ask(2)
    assert second.usage.cache_read_input_tokens is not None and second.usage.cache_read_input_tokens >= 64
    told = [(one.usage.input_tokens, one.usage.cache_read_input_tokens or 0) for one in (first, second)]
    assert len({sum(one) for one in told}) == 1


# -- streams that do not come to their end


def details_of(name: str, client: Client) -> Mapping[str, Any]:
    (found,) = [model.details for model in client.status().models if model.name == name]
    return found


def test_stream_that_is_left_gives_its_place_back(client: anthropic.Anthropic, host: HostProcess) -> None:
    with client.messages.stream(
        model="caller", max_tokens=4000, messages=ASKED, extra_body=FOREVER
    ) as stream:
        assert "on" in next(stream.text_stream)
    with host.client(timeout=60) as other:
        while details_of("caller", other)["running"]:
            pass


def test_error_amid_a_stream_is_told(client: anthropic.Anthropic, host: HostProcess) -> None:
    with (
        host.client(timeout=60) as other,
        pytest.raises(anthropic.APIStatusError) as lost,
        client.messages.stream(model="caller", max_tokens=4000, messages=ASKED, extra_body=FOREVER) as stream,
    ):
        for number, _ in enumerate(stream.text_stream):
            if number == 3:
                os.kill(details_of("caller", other)["pid"], signal.SIGKILL)
    assert lost.value.type == "api_error" and stream.current_message_snapshot.content
    client.messages.create(model="caller", max_tokens=5, messages=ASKED)  # it has been started again


# -- models


def test_models_are_listed_by_all_their_names(client: anthropic.Anthropic) -> None:
    names = ["demo", "claude-haiku-4-5", "caller", "claude-sonnet-4-6"]
    assert [model.id for model in client.models.list()] == names
    assert [model.id for model in client.models.list(limit=1)] == names  # page by page
    page = client.models.list(limit=2, before_id="claude-sonnet-4-6")
    assert [model.id for model in page.data] == names[1:3] and page.has_more
    client.messages.create(model="demo", max_tokens=1, messages=SUM)
    model = client.models.retrieve("claude-haiku-4-5")
    assert (model.type, model.display_name, model.max_input_tokens) == (
        "model",
        "claude-haiku-4-5 (demo)",
        1024,
    )


def test_model_that_there_is_not(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.models.retrieve("nope")
    assert missing.value.type == "not_found_error"
    with pytest.raises(anthropic.BadRequestError, match="after_id"):
        client.models.list(after_id="nope")
    with pytest.raises(anthropic.BadRequestError, match="limit"):
        client.models.list(limit=0)


# -- errors


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ({"model": "nope"}, anthropic.NotFoundError, "no model 'nope'"),
        ({"top_p": 7}, anthropic.BadRequestError, "top_p must be"),
        ({"stop_sequences": [""]}, anthropic.BadRequestError, "stop_sequences"),
        ({"max_tokens": 0}, anthropic.BadRequestError, "max_tokens must be"),
        ({"tools": [WEATHER]}, anthropic.BadRequestError, "tools cannot be used: "),
        (
            {"model": "caller", "tools": [{**WEATHER, "input_schema": {"not": {}}, "strict": True}]},
            anthropic.BadRequestError,
            "tools.0.input_schema.not",
        ),
        (
            {"messages": [{"role": "user", "content": "x " * 3000}]},
            anthropic.BadRequestError,
            "prompt is too long: ",
        ),
        ({"nonsense": 1}, anthropic.BadRequestError, "nonsense: is not supported"),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_what_is_wrong_is_told_in_anthropics_shape(
    client: anthropic.Anthropic,
    body: dict[str, Any],
    kind: type[anthropic.APIStatusError],
    message: str,
    is_stream: bool,
) -> None:
    with pytest.raises(kind) as caught:
        client.messages.create(
            model="demo", max_tokens=5, messages=SUM, extra_body={**body, "stream": is_stream}
        )
    error = caught.value
    told: Any = error.body
    assert told["type"] == "error" and message in told["error"]["message"]
    assert told["request_id"] == error.request_id is not None


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/messages", 405), ("POST", "/v1/messages/x", 404)]
)
def test_paths_and_methods_that_there_are_not(
    gateway: GatewayProcess, method: str, path: str, status: int
) -> None:
    answer = httpx.request(method, f"{gateway.url}{path}")
    assert answer.status_code == status and answer.json()["type"] == "error"


def test_schema_that_is_nested_too_deep_is_refused(client: anthropic.Anthropic) -> None:
    schema: Any = {}
    for _ in range(900):
        schema = {"a": schema}
    tools: list[Any] = [{"name": "x", "input_schema": schema}]
    with pytest.raises(anthropic.BadRequestError, match="tools"):
        client.messages.create(model="caller", max_tokens=5, messages=ASKED, tools=tools)


def test_bodies_that_are_none(gateway: GatewayProcess) -> None:
    answer = httpx.post(f"{gateway.url}/v1/messages", content=b"{")
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_keys_and_their_limits(host: HostProcess, tmp_path: Path) -> None:
    key, digest = make_key()
    keys = tmp_path / "keys.toml"
    add_caller(keys, "alice", digest)
    keys.write_text(keys.read_text() + 'models = ["demo"]\ntokens_per_minute = 10\n')
    with run_gateway(host.url, "--keys", str(keys)) as gateway:
        client = anthropic.Anthropic(base_url=gateway.url, api_key=key, max_retries=0)
        asked: dict[str, Any] = {"max_tokens": 3, "messages": SUM}
        with pytest.raises(anthropic.AuthenticationError) as unknown:
            client.with_options(api_key="wrong").messages.create(model="demo", **asked)
        with pytest.raises(anthropic.NotFoundError) as forbidden:
            client.messages.create(model="caller", **asked)
        assert [model.id for model in client.models.list()] == ["demo"]
        client.messages.create(model="demo", **asked)
        with pytest.raises(anthropic.RateLimitError) as limited:
            client.messages.create(model="demo", **asked)
    assert (unknown.value.type, forbidden.value.type) == ("authentication_error", "not_found_error")
    assert limited.value.type == "rate_limit_error"
    assert int(limited.value.response.headers["retry-after"]) >= 1


def test_host_that_has_too_much_to_do(client: anthropic.Anthropic, host: HostProcess) -> None:
    with host.client(timeout=60) as other:
        first = other.generate("a", model="demo", stream=True, max_tokens=900, ignore_eos=True)
        next(first)
        second = other.generate("a", model="demo", stream=True, max_tokens=2)
        while details_of("demo", other)["waiting"] < 1:
            pass
        with pytest.raises(anthropic.APIStatusError) as busy:
            client.messages.create(model="demo", max_tokens=3, messages=SUM)
        first.close()
        second.close()
    assert (busy.value.status_code, busy.value.type) == (529, "overloaded_error")
    assert int(busy.value.response.headers["retry-after"]) >= 1
