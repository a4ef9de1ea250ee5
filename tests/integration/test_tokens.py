"""Token counts through the whole bridge: they are what answers say they cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlxbridge import AsyncClient, Client, Message
from mlxbridge.errors import InvalidArgument, ModelNotFound, Unsupported, UsageError
from tests.host.embeddings.checkpoints import save_model
from tests.host.engine.scripted import END, save_scripted_model
from tests.integration.hosts import HostProcess, run_host

REFERENCES = json.loads((Path(__file__).parents[1] / "host/embeddings/references.json").read_text())
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
CHAT: list[Message] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather in 東京?"},
]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    folder = tmp_path_factory.mktemp("models")
    scripts = {"<think>": ["so", "</think>", "Well.", END], "<scene:x>": ["on", END]}
    save_scripted_model(folder / "caller", scripts)
    save_model(folder / "finder", REFERENCES["models"]["bert"])
    models = ("demo", str(folder / "caller"), str(folder / "finder"))
    with run_host("unix", models=models) as running:
        yield running


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tools": [TOOL]},
        {"tools": [TOOL], "tool_choice": "none"},
        {"reasoning": True},
        {"tools": [TOOL], "reasoning": False},
        {"chat_template_kwargs": {"scene": "<scene:x>"}},
    ],
)
def test_chat_costs_what_was_counted(client: Client, options: dict[str, Any]) -> None:
    counted = client.count_tokens(CHAT, model="caller", **options)
    assert client.chat(CHAT, model="caller", max_tokens=1, **options).usage.prompt_tokens == counted
    assert len(client.tokenize(CHAT, model="caller", **options)) == counted


def test_prompt_costs_what_was_counted_and_its_tokens_answer_as_it_does(client: Client) -> None:
    text = "The capital of France is"
    ids = client.tokenize(text, model="demo")
    assert client.count_tokens(text, model="demo") == len(ids)
    answers = [client.generate(prompt, model="demo", max_tokens=5) for prompt in (text, ids)]
    assert answers[0].usage.prompt_tokens == len(ids)
    assert answers[0].text == answers[1].text


@pytest.mark.parametrize("text", ["", "x", "What is 27 + 15?", " two  spaces . ", "東京 🙂\n\ttab"])
def test_text_comes_back(client: Client, text: str) -> None:
    for model in ("demo", "caller"):
        ids = client.tokenize(text, model=model, add_special_tokens=False)
        assert client.detokenize(ids, model=model) == text


def test_half_a_character_is_a_replacement(client: Client) -> None:
    ids = client.tokenize("🙂", model="caller", add_special_tokens=False)
    assert "\N{REPLACEMENT CHARACTER}" in client.detokenize(ids[:1], model="caller")


def test_generation_prompt_can_be_left_out(client: Client) -> None:
    whole = client.tokenize(CHAT, model="caller")
    messages = client.tokenize(CHAT, model="caller", add_generation_prompt=False)
    assert whole[: len(messages)] == messages and len(whole) > len(messages)


def test_special_tokens_can_be_skipped(client: Client) -> None:
    ids = client.tokenize(CHAT, model="caller")
    assert "</s>" in client.detokenize(ids, model="caller")
    assert "</s>" not in client.detokenize(ids, model="caller", skip_special_tokens=True)


def test_embedding_model_counts_what_it_reads(client: Client) -> None:
    text = "hello world"
    counted = client.count_tokens(text, model="finder")
    assert client.embed(text, model="finder").usage.prompt_tokens == counted
    bare = client.tokenize(text, model="finder", add_special_tokens=False)
    assert 0 < len(bare) < counted
    assert client.count_tokens(text * 1000, model="finder") > 1000  # over the model's limit
    assert isinstance(client.detokenize(bare, model="finder"), str)
    with pytest.raises(Unsupported, match="no chat template") as caught:
        client.count_tokens(CHAT, model="finder")
    assert caught.value.details == {"field": "messages"}


def test_async_client_counts_too(host: HostProcess) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(host.url, token=host.token, timeout=60) as client:
            stream = await client.stream("The ", model="demo", max_tokens=50)
            counted = await asyncio.gather(*(client.count_tokens(CHAT, model="caller") for _ in range(20)))
            ids = await client.tokenize("27 + 15", model="demo", add_special_tokens=False)
            text = await client.detokenize(ids, model="demo")
            return [set(counted), text, (await stream.read()).completion_tokens]

    with host.client(timeout=60) as client:
        expected = client.count_tokens(CHAT, model="caller")
    counts, text, num_answered = asyncio.run(ask())
    assert (counts, text) == ({expected}, "27 + 15") and num_answered > 0


@pytest.mark.parametrize(
    ("prompt", "options", "kind", "field"),
    [
        ("x", {"temperature": 1}, UsageError, "temperature"),
        ("x", {"add_special_token": True}, UsageError, "add_special_token"),
        ([1, 2], {}, UsageError, "prompt"),
        ([], {}, UsageError, "prompt"),
        (b"x", {}, UsageError, "prompt"),
        ([{"role": "user"}], {}, InvalidArgument, "messages[0].content"),
        (CHAT, {"add_special_tokens": False}, InvalidArgument, "add_special_tokens"),
        ("x", {"add_generation_prompt": False}, InvalidArgument, "add_generation_prompt"),
        ("x" * 1_048_577, {}, InvalidArgument, "prompt"),
        ([{"role": "user", "content": "x" * 1_048_577}], {}, InvalidArgument, "messages"),
        (CHAT, {"chat_template_kwargs": {"mood": 1}}, Unsupported, "chat_template_kwargs.mood"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    client: Client, prompt: Any, options: dict[str, Any], kind: type[Exception], field: str
) -> None:
    with pytest.raises(kind) as caught:
        client.count_tokens(prompt, model="caller", **options)
    assert caught.value.details == {"field": field}  # type: ignore[attr-defined]


def test_token_ids_that_are_none_are_refused_by_name(client: Client) -> None:
    for ids in ("abc", 7, [-1], ["a"]):
        with pytest.raises(UsageError, match="^token_ids: "):
            client.detokenize(ids, model="demo")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument) as caught:
        client.detokenize([1, 1 << 30], model="demo")
    assert caught.value.details == {"field": "token_ids[1]"}
    with pytest.raises(ModelNotFound):
        client.count_tokens("x", model="nobody")
