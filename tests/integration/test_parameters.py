"""What may be asked of an answer, through the whole bridge: done as it is said, or refused by name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mlxbridge import AsyncClient, Client
from mlxbridge.errors import (
    ContextTooLong,
    InvalidArgument,
    UsageError,
)
from mlxbridge.types import Options, Priority, TextPart
from tests.integration.hosts import HostProcess, on_one_transport

pytestmark = on_one_transport
LONG = "Count from 1 to 90."


def test_content_in_parts_is_the_text_that_they_make(client: Client) -> None:
    parts: list[TextPart] = [{"type": "text", "text": "What is 27 "}, {"type": "text", "text": "+ 15?"}]
    answer, whole = client.chat([{"role": "user", "content": parts}]), client.chat("What is 27 + 15?")
    assert (answer.text, answer.prompt_tokens) == (whole.text, whole.prompt_tokens)


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
        client._caller.ask("generate", {"prompt": "x", "top_pp": 1}, None)


def test_prompt_beyond_the_context_is_refused_with_both_numbers(client: Client) -> None:
    context = client.list_models()[0].details["context_length"]
    with pytest.raises(ContextTooLong, match=str(context)):
        client.generate("word " * context)


def test_prompt_and_messages_exclude_each_other(client: Client) -> None:
    with pytest.raises(UsageError, match="either prompt"):
        client.generate("a", messages=[{"role": "user", "content": "b"}])
