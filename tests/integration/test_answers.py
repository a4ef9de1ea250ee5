"""Answers of the demo model through the whole bridge: right, whole, and the same whatever runs beside them."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any

import pytest

from mlxbridge import AsyncClient, Client
from mlxbridge.errors import (
    DeadlineExceeded,
    LocalProtocolError,
    ModelNotFound,
    UnknownMethod,
    UsageError,
)
from mlxbridge.types import Chunk
from tests.integration.hosts import HostProcess, on_one_transport

LONG = "Count from 1 to 90."


def questions(count: int) -> list[str]:
    return [f"What is {10 + i % 40} + {11 + i // 40}?" for i in range(count)]


def wait_until_idle(client: Client, timeout_s: float = 60.0) -> int:
    """Tokens the model has generated in all, once nothing runs any more."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        details = client.status().models[0].details
        if (
            details.get("running") == 0 and details["waiting"] == 0
        ):  # a worker that is busy may not say in time
            total = details["tokens_total"]
            assert isinstance(total, int)
            return total
    raise AssertionError("the model is still busy")


def test_chat_answers_rightly_and_tells_what_it_cost(client: Client) -> None:
    answer = client.chat("What is 27 + 15?")
    assert "42" in answer.text
    assert answer.finish_reason == "stop"
    assert answer.model == "demo"
    assert answer.prompt_tokens > 5
    assert answer.completion_tokens == len(answer.token_ids) + 1  # the end-of-turn token has no text
    assert answer.tokens_per_second > 0
    assert 0 < answer.time_to_first_token < 60
    assert str(answer) == answer.text


def test_stream_gives_the_same_answer_in_pieces(client: Client) -> None:
    question = "Count from 1 to 20."
    whole = client.chat(question)
    with client.chat(question, stream=True) as stream:
        chunks = list(stream)
    assert len(chunks) > 20
    assert all(isinstance(chunk, Chunk) for chunk in chunks)
    assert "".join(f"{chunk}" for chunk in chunks) == whole.text == stream.text
    assert [token for chunk in chunks for token in chunk.token_ids] == whole.token_ids
    assert stream.generation.completion_tokens == whole.completion_tokens


def test_generation_before_the_end_is_refused(client: Client) -> None:
    with client.chat(LONG, stream=True) as stream, pytest.raises(UsageError, match="not come to its end"):
        stream.generation  # noqa: B018


def test_generation_of_a_closed_stream_advises_nothing_that_cannot_help(client: Client) -> None:
    stream = client.chat(LONG, stream=True)
    first = next(stream).text
    stream.close()
    with pytest.raises(UsageError, match="closed, or failed, before its end; text has") as caught:
        stream.generation  # noqa: B018
    assert "read()" not in caught.value.message
    assert stream.text == first


@on_one_transport
async def test_200_streams_on_one_connection_are_each_exact(host: HostProcess) -> None:
    asked = questions(200)
    async with AsyncClient(host.url, token=host.token, timeout=120) as many:

        async def read(question: str) -> str:
            async with await many.chat(question, stream=True) as stream:
                return "".join([str(chunk) async for chunk in stream])

        together = await asyncio.gather(*(read(question) for question in asked))
        alone = [(await many.chat(question)).text for question in asked[::20]]
    assert together[::20] == alone
    for question, answer in zip(asked, together, strict=True):
        first, second = (int(word.strip("?")) for word in question.split() if word.strip("?").isdigit())
        assert str(first + second) in answer, (question, answer)


def test_one_client_serves_many_threads(client: Client) -> None:
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        answers[number] = client.chat(f"What is {number} + 20?").text

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(str(number + 20) in answers[number] for number in range(16)), answers


def test_many_prompts_as_one_call_are_answered(client: Client) -> None:
    chats: list[Any] = [[{"role": "user", "content": f"What is {number} + 15?"}] for number in range(20, 32)]
    found = {outcome.index: outcome.text for outcome in client.generate_many(chats)}
    assert all(str(number + 15) in found[index] for index, number in enumerate(range(20, 32)))


def test_closed_stream_stops_the_model(client: Client) -> None:
    before = wait_until_idle(client)
    stream = client.chat(LONG, stream=True)
    next(stream)
    stream.close()
    assert next(stream, None) is None
    assert wait_until_idle(client) - before < 150  # the whole answer is over 250 tokens


def test_dropped_stream_stops_the_model(client: Client) -> None:
    before = wait_until_idle(client)
    next(client.chat(LONG, stream=True))
    gc.collect()
    assert wait_until_idle(client) - before < 150


async def test_cancelled_task_stops_the_model(host: HostProcess) -> None:
    with host.client() as watcher:
        before = wait_until_idle(watcher)
        async with AsyncClient(host.url, token=host.token) as client:
            stream = await client.chat(LONG, stream=True)
            started = asyncio.Event()

            async def read() -> None:
                async for _ in stream:
                    started.set()

            task = asyncio.create_task(read())
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(wait_until_idle, watcher) - before < 150
            assert "42" in (await client.chat("What is 27 + 15?")).text  # the connection goes on


def test_guest_that_disconnects_stops_the_model(host: HostProcess, client: Client) -> None:
    before = wait_until_idle(client)
    with host.client() as other:
        next(other.chat(LONG, stream=True))
    assert wait_until_idle(client) - before < 150


def test_timeout_is_an_error_and_stops_the_model(client: Client) -> None:
    before = wait_until_idle(client)
    with pytest.raises(DeadlineExceeded):
        client.chat(LONG, timeout=0.02)
    assert wait_until_idle(client) - before < 150
    assert "42" in client.chat("What is 27 + 15?").text


async def test_async_timeout_is_an_error(host: HostProcess) -> None:
    async with AsyncClient(host.url, token=host.token) as client:
        await client.ping()
        with pytest.raises(DeadlineExceeded):
            await client.chat(LONG, timeout=0.02)
        assert "42" in (await client.chat("What is 27 + 15?")).text


@on_one_transport
def test_slow_reader_gets_every_token_merged(client: Client) -> None:
    whole = client.chat(LONG)
    with client.chat(LONG, stream=True) as stream:
        first = next(stream)
        wait_until_idle(client)  # the model has finished, while the stream still has unread tokens
        rest = list(stream)
    assert "".join(map(str, [first, *rest])) == whole.text


def test_unknown_method_is_refused_with_the_nearest_name(client: Client) -> None:
    with pytest.raises(UnknownMethod, match="did you mean 'generate'"):
        client._caller.ask("generat", {}, None)


def test_unknown_model_is_refused_with_the_names_there_are(client: Client) -> None:
    with pytest.raises(ModelNotFound, match="did you mean 'demo'"):
        client.chat("Hello", model="demi")


def test_arguments_that_cannot_be_sent_leave_the_connection_usable(client: Client) -> None:
    client.ping()
    with pytest.raises((LocalProtocolError, UsageError)):
        client.chat([{"role": "user", "content": object()}])  # type: ignore[typeddict-item]
    assert "42" in client.chat("What is 27 + 15?").text


def test_models_status_and_ping(client: Client) -> None:
    (model,) = client.list_models()
    assert (model.name, model.state) == ("demo", "ready")
    assert model.details["parameters"] > 100_000
    status = client.status()
    assert status.software.startswith("mlxbridge-host/")
    assert status.connections >= 1
    assert status.models[0].details["steps_total"] >= 0
    assert 0 < client.ping() < 5


@on_one_transport
def test_unload_and_load_again(client: Client) -> None:
    assert client.unload_model("demo").state == "unloaded"
    assert client.list_models()[0].state == "unloaded"
    assert "42" in client.chat("What is 27 + 15?").text  # loads it again
    assert client.load_model("demo").state == "ready"
