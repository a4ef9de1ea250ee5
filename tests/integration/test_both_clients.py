"""One suite for every client on every transport: blocking, on asyncio and on uvloop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest

from mlxbridge import Chunk, ModelEvent
from mlxbridge.errors import (
    ContextTooLong,
    DeadlineExceeded,
    InvalidArgument,
    ModelNotFound,
    PermissionDenied,
    UnreadableAnswer,
    Unsupported,
    UsageError,
)
from tests.helpers.either import KINDS, either_client
from tests.integration.hosts import Host

SUM = "What is 27 + 15?"
CHAT = [{"role": "user", "content": SUM}]
ANSWER = "27 + 15 = 42."


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, host: Host) -> Iterator[Any]:
    with either_client(request.param, host.url, token=host.token, timeout=60) as made:
        yield made


def test_answers(client: Any) -> None:
    answer = client.chat(SUM)
    assert (answer.text, answer.model, answer.finish_reason) == (ANSWER, "demo", "stop")
    assert answer.usage.prompt_tokens == client.count_tokens(CHAT)
    assert client.generate(messages=CHAT).token_ids == answer.token_ids
    assert [each.text for each in client.chat(SUM, n=2)] == [ANSWER] * 2
    raw = client.generate("The capital of France is", max_tokens=3)
    assert raw.finish_reason == "length" and raw.completion_tokens == 3


def test_streams(client: Any) -> None:
    with client.chat(SUM, stream=True, logprobs=1) as stream:
        chunks = list(stream)
    assert all(isinstance(chunk, Chunk) for chunk in chunks)
    assert "".join(map(str, chunks)) == stream.text == stream.generation.text == ANSWER
    assert len(stream.generation.logprobs) == len(stream.generation.token_ids)
    with client.stream(messages=CHAT) as stream:
        next(stream)
    with pytest.raises(UsageError, match="before its end"):
        _ = stream.generation


def test_answers_are_objects(client: Any) -> None:
    capital = Literal["Berlin", "Paris"]
    assert client.chat("What is the capital of France?", response_format=capital).parsed == "Paris"
    cut = client.generate("x", response_format=list[int], max_tokens=1)
    with pytest.raises(UnreadableAnswer):
        _ = cut.parsed


def test_conversations(client: Any) -> None:
    talk = client.conversation(system="You answer briefly.")
    assert str(talk.say(SUM)) == ANSWER
    cost = talk.count_tokens()
    with talk.stream("What is the capital of France?") as stream:
        assert "Paris" in "".join(map(str, stream))
    assert stream.generation.usage.prompt_tokens > cost
    assert len(talk.messages) == 5


def test_conversation_forgets_what_does_not_fit(client: Any) -> None:
    long = "one two three four five six seven eight nine ten " * 20
    talk = client.conversation(max_tokens=5)
    with pytest.raises(ContextTooLong):
        for _ in range(10):
            talk.say(long)
    num_kept = len(talk.messages)
    assert num_kept and num_kept % 2 == 0
    other = client.conversation(max_tokens=5, messages=talk.messages, when_full="drop_oldest")
    for _ in range(3):
        other.say(long)
    assert other.messages[0]["role"] == "user" and len(other.messages) <= num_kept + 2


def test_tokens(client: Any) -> None:
    ids = client.tokenize(SUM, add_special_tokens=False)
    assert (client.detokenize(ids), client.count_tokens(SUM, add_special_tokens=False)) == (SUM, len(ids))


def test_many(client: Any) -> None:
    questions = [[{"role": "user", "content": f"What is {number} + 15?"}] for number in range(20, 30)]
    with client.generate_many(questions) as outcomes:
        found = {outcome.index: outcome.text for outcome in outcomes}
    assert {index: text.split()[-1] for index, text in found.items()} == {i: f"{i + 35}." for i in range(10)}
    assert outcomes.num_done == outcomes.num_total == 10


def test_models(client: Any) -> None:
    told: list[Any] = []
    assert client.load_model("demo", progress=told.append).state == "ready"
    assert [model.name for model in client.list_models()] == ["demo"]
    assert client.show_model("demo").details["context_length"] > 100
    assert client.status().models[0].name == "demo"
    assert 0 < client.ping() < 30
    with client.subscribe(["model"]) as events:
        first = next(events)
    assert isinstance(first, ModelEvent) and (first.model, first.state) == ("demo", "ready")


@pytest.mark.parametrize(
    ("ask", "kind", "field"),
    [
        (lambda client: client.generate("x", top_p=9), InvalidArgument, "top_p"),
        (lambda client: client.generate("x", temprature=1), UsageError, "temprature"),
        (lambda client: client.chat("x", tools=[any]), UsageError, "tools.any.iterable"),
        (lambda client: client.run_tools("x", [str.upper]), UsageError, "tools.upper.self"),
        (lambda client: client.generate("x", response_format=bytes), UsageError, "response_format"),
        (lambda client: client.tokenize("x", add_special_tokens="no"), InvalidArgument, "add_special_tokens"),
        (lambda client: client.detokenize([1 << 31]), InvalidArgument, "token_ids[0]"),
        (lambda client: client.embed("x"), Unsupported, "model"),
        (lambda client: client.rerank("x", ["y"]), Unsupported, "model"),
        (
            lambda client: client.chat("x", tools=[{"type": "function", "function": {"name": "f"}}]),
            Unsupported,
            "tools",
        ),
    ],
)
def test_wrong_arguments_are_refused_by_name(
    client: Any, ask: Any, kind: type[Exception], field: str
) -> None:
    with pytest.raises(kind) as caught:
        ask(client)
    assert caught.value.details["field"] == field  # type: ignore[attr-defined]


def test_errors_are_of_one_tree(client: Any) -> None:
    with pytest.raises(ModelNotFound) as missing:
        client.chat("x", model="nobody")
    assert (missing.value.code, missing.value.retryable) == (22, False)
    with (
        pytest.raises(DeadlineExceeded),
        client.chat("Count from 1 to 90.", stream=True, timeout=0.01) as stream,
    ):
        stream.read()
    with pytest.raises(PermissionDenied):
        client.pull_model("org/model")
    assert str(client.chat(SUM)) == ANSWER
