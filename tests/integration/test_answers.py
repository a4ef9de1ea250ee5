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
    ContextTooLong,
    DeadlineExceeded,
    InvalidArgument,
    LocalProtocolError,
    ModelNotFound,
    UnknownMethod,
    UsageError,
)
from mlxbridge.types import Chunk, Options, Priority, TextPart
from tests.integration.hosts import HostProcess

LONG = "Count from 1 to 90."


def questions(count: int) -> list[str]:
    return [f"What is {10 + i % 40} + {11 + i // 40}?" for i in range(count)]


def wait_until_idle(client: Client, timeout_s: float = 60.0) -> int:
    """Tokens the model has generated in all, once nothing runs any more."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        details = client.status().models[0].details
        if details["running"] == 0 and details["waiting"] == 0:
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


def test_content_in_parts_is_the_text_that_they_make(client: Client) -> None:
    parts: list[TextPart] = [{"type": "text", "text": "What is 27 "}, {"type": "text", "text": "+ 15?"}]
    answer, whole = client.chat([{"role": "user", "content": parts}]), client.chat("What is 27 + 15?")
    assert (answer.text, answer.prompt_tokens) == (whole.text, whole.prompt_tokens)


def test_stream_gives_the_same_answer_in_pieces(client: Client) -> None:
    whole = client.chat(LONG)
    with client.chat(LONG, stream=True) as stream:
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


def test_raw_prompt_and_token_ids_mean_the_same(client: Client) -> None:
    text = client.generate("Hello", max_tokens=8, temperature=0)
    assert text.finish_reason in ("length", "stop")
    again = client.generate([*text.token_ids], max_tokens=4)
    assert again.prompt_tokens == len(text.token_ids)


def test_stop_string_cuts_exactly(client: Client) -> None:
    whole = client.chat("Count from 1 to 20.").text
    cut = client.chat("Count from 1 to 20.", stop=["12"])
    assert cut.text == whole[: whole.index("12")]
    assert cut.finish_reason == "stop"
    assert cut.usage.stop_string == "12"


def test_max_tokens_ends_with_length(client: Client) -> None:
    answer = client.chat(LONG, max_tokens=7)
    assert (answer.finish_reason, answer.completion_tokens, len(answer.token_ids)) == ("length", 7, 7)


def test_same_seed_gives_the_same_text_alone_and_beside_others(host: HostProcess, client: Client) -> None:
    options = {"temperature": 1.3, "seed": 7, "max_tokens": 40}
    alone = client.generate("The ", **options)  # type: ignore[call-overload]

    async def beside() -> str:
        async with AsyncClient(host.url, token=host.token) as many:
            others = [many.generate(f"{i}", temperature=1.0, max_tokens=40) for i in range(9)]
            answers = await asyncio.gather(many.generate("The ", **options), *others)  # type: ignore[call-overload]
            return str(answers[0].text)

    assert asyncio.run(beside()) == alone.text
    assert client.generate("The ", **{**options, "seed": 8}).text != alone.text  # type: ignore[call-overload]


async def test_200_streams_on_one_connection_are_each_exact(host: HostProcess) -> None:
    asked = questions(200)
    async with AsyncClient(host.url, token=host.token, timeout=120) as many:

        async def read(question: str) -> str:
            async with await many.chat(question, stream=True) as stream:
                return "".join([str(chunk) async for chunk in stream])

        together = await asyncio.gather(*(read(question) for question in asked))
        alone = [(await many.chat(question)).text for question in asked[::8]]
    assert together[::8] == alone
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


def test_slow_reader_gets_every_token_merged(client: Client) -> None:
    whole = client.chat(LONG)
    with client.chat(LONG, stream=True) as stream:
        first = next(stream)
        wait_until_idle_but_for_us(client)
        rest = list(stream)
    assert "".join(map(str, [first, *rest])) == whole.text


def wait_until_idle_but_for_us(client: Client) -> None:
    """The model has finished, while the stream above still has unread tokens."""
    wait_until_idle(client)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 2.0}, "min_p"),
        ({"stop": [""]}, "stop"),
        ({"seed": "x"}, "seed"),
        ({"xtc_probability": 0.5}, "xtc_probability"),
        ({"logit_bias": {1 << 30: 1.0}}, "logit_bias"),
        ({"logit_bias": {1: float("inf")}}, "logit_bias"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"presence_context_size": 0}, "presence_context_size"),
        ({"stop_token_ids": [1 << 30]}, "stop_token_ids"),
        ({"ignore_eos": 1}, "ignore_eos"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"priority": "urgent"}, "priority"),
    ],
)
def test_bad_parameter_is_refused_by_name(client: Client, arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.chat("Hello", **arguments)
    assert caught.value.details["field"] == field
    assert field in caught.value.message


def test_logprobs_are_each_tokens_own_and_for_who_asked(client: Client) -> None:
    with client.chat(LONG, stream=True) as beside:
        next(beside)
        answer = client.chat("What is 27 + 15?", logprobs=3)
        assert all(chunk.logprobs is None for chunk in beside)
    assert answer.text == "27 + 15 = 42."
    assert answer.logprobs is not None
    assert [each.chosen.token_id for each in answer.logprobs] == answer.token_ids
    assert b"".join(each.chosen.data for each in answer.logprobs).decode() == answer.text
    for each in answer.logprobs:
        assert each.top[0] == each.chosen  # the likeliest: it was greedy
        assert [len(each.top), each.chosen.logprob <= 0] == [3, True]
        assert each.top[0].logprob >= each.top[1].logprob >= each.top[2].logprob


def test_logprobs_of_no_others_and_of_a_stream(client: Client) -> None:
    with client.chat("What is 27 + 15?", logprobs=0, stream=True) as stream:
        chunks = list(stream)
    given = [each for chunk in chunks for each in chunk.logprobs or ()]
    assert given == stream.generation.logprobs
    assert [(each.chosen.token_id, each.top) for each in given] == [
        (token, ()) for token in stream.generation.token_ids
    ]


def test_logit_bias_forbids_a_token(client: Client) -> None:
    plain = client.chat("What is 27 + 15?")
    biased = client.chat("What is 27 + 15?", logit_bias={plain.token_ids[0]: -1000.0})
    assert biased.token_ids[0] != plain.token_ids[0]


def test_stop_token_ends_the_answer_and_is_named(client: Client) -> None:
    plain = client.chat("What is 27 + 15?")
    end = plain.token_ids[-1]
    before = plain.token_ids[: plain.token_ids.index(end)]
    cut = client.chat("What is 27 + 15?", stop_token_ids=[end])
    assert (cut.token_ids, cut.finish_reason, cut.usage.stop_token_id) == (before, "stop", end)
    assert plain.usage.stop_token_id is None


def test_answer_goes_on_after_its_end_where_that_is_wanted(client: Client) -> None:
    plain = client.chat("What is 27 + 15?")
    assert client.chat("What is 27 + 15?", min_tokens=40).completion_tokens >= 40 > plain.completion_tokens
    ignoring = client.chat("What is 27 + 15?", ignore_eos=True, max_tokens=40)
    assert (ignoring.finish_reason, len(ignoring.token_ids)) == ("length", 40)
    assert ignoring.text.startswith(plain.text)


@pytest.mark.parametrize(
    "options",
    [{"repetition_penalty": 3.0}, {"presence_penalty": 9.0}, {"frequency_penalty": 9.0}],
    ids=lambda options: next(iter(options)),
)
def test_penalty_makes_the_same_again_less_likely(client: Client, options: Options) -> None:
    given: Options = {"max_tokens": 12, "logprobs": 0}
    plain = client.chat(LONG, **given)
    merged: Options = {**given, **options}
    penalised = client.chat(LONG, **merged)
    assert plain.logprobs is not None and penalised.logprobs is not None
    lowest = [min(each.chosen.logprob for each in answer) for answer in (plain.logprobs, penalised.logprobs)]
    assert lowest[1] < -0.01 < lowest[0]


def test_xtc_leaves_the_likeliest_out(client: Client) -> None:
    options: Options = {"temperature": 0.01, "seed": 3, "max_tokens": 12}
    plain = client.generate("What", **options)
    without: Options = {**options, "xtc_probability": 1.0, "xtc_threshold": 0.01}
    assert client.generate("What", **without).text != plain.text


def test_several_answers_are_what_each_seed_gives_alone(client: Client) -> None:
    several = client.generate("The ", temperature=1.3, max_tokens=30, seed=2**64 - 2, n=4)
    alone = [
        client.generate("The ", temperature=1.3, max_tokens=30, seed=seed)
        for seed in (2**64 - 2, 2**64 - 1, 0, 1)
    ]
    assert [answer.text for answer in several] == [answer.text for answer in alone]
    assert len({answer.text for answer in several}) > 1
    assert len({answer.text for answer in client.chat("What is 27 + 15?", n=3)}) == 1  # greedy


async def test_several_answers_to_an_async_client(host: HostProcess) -> None:
    async with AsyncClient(host.url, token=host.token, timeout=60) as client:
        several = await client.chat("What is 27 + 15?", n=3, logprobs=1)
    assert [answer.text for answer in several] == ["27 + 15 = 42."] * 3
    assert several[0].logprobs is not None
    assert len(several[0].logprobs) == len(several[0].token_ids)


@pytest.mark.parametrize("priority", ["high", "normal", "low"])
def test_every_priority_is_served(client: Client, priority: Priority) -> None:
    assert "42" in client.chat("What is 27 + 15?", priority=priority).text


def test_wrong_name_is_refused_before_anything_is_sent(client: Client) -> None:
    with pytest.raises(UsageError, match="did you mean 'temperature'"):
        client.chat("Hello", temprature=1)  # type: ignore[call-overload]


def test_unknown_parameter_is_refused_with_the_nearest_name(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="did you mean 'top_p'"):
        client._ask("generate", {"prompt": "x", "top_pp": 1}, None)


def test_unknown_method_is_refused_with_the_nearest_name(client: Client) -> None:
    with pytest.raises(UnknownMethod, match="did you mean 'generate'"):
        client._ask("generat", {}, None)


def test_unknown_model_is_refused_with_the_names_there_are(client: Client) -> None:
    with pytest.raises(ModelNotFound, match="did you mean 'demo'"):
        client.chat("Hello", model="demi")


def test_prompt_beyond_the_context_is_refused_with_both_numbers(client: Client) -> None:
    context = client.list_models()[0].details["context_length"]
    with pytest.raises(ContextTooLong, match=str(context)):
        client.generate("word " * context)


def test_arguments_that_cannot_be_sent_leave_the_connection_usable(client: Client) -> None:
    client.ping()
    with pytest.raises((LocalProtocolError, UsageError)):
        client.chat([{"role": "user", "content": object()}])  # type: ignore[typeddict-item]
    assert "42" in client.chat("What is 27 + 15?").text


def test_prompt_and_messages_exclude_each_other(client: Client) -> None:
    with pytest.raises(UsageError, match="either prompt"):
        client.generate("a", messages=[{"role": "user", "content": "b"}])


def test_models_status_and_ping(client: Client) -> None:
    (model,) = client.list_models()
    assert (model.name, model.state) == ("demo", "ready")
    assert model.details["parameters"] > 100_000
    status = client.status()
    assert status.software.startswith("mlxbridge-host/")
    assert status.connections >= 1
    assert status.models[0].details["steps_total"] >= 0
    assert 0 < client.ping() < 5


def test_unload_and_load_again(client: Client) -> None:
    assert client.unload_model("demo").state == "unloaded"
    assert client.list_models()[0].state == "unloaded"
    assert "42" in client.chat("What is 27 + 15?").text  # loads it again
    assert client.load_model("demo").state == "ready"
