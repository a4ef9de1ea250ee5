from __future__ import annotations

import re
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

import mlxbridge.protocol
from mlxbridge.errors import InternalError, InvalidArgument
from mlxbridge.host.engine import checks
from mlxbridge.host.engine.grammar import json_schema
from mlxbridge.host.engine.grammar.library import TIMEOUT_S
from mlxbridge.host.engine.grammar.response_format import MAX_CHARS, Source
from mlxbridge.host.engine.interface import DEFAULT_CONTEXT_SIZE, MAX_TOP_LOGPROBS, NOBODY, Row
from mlxbridge.host.params import (
    EMBED_PARAMS,
    GENERATE_PARAMS,
    RERANK_PARAMS,
    check_names,
    estimate_bytes,
    nearest,
    parse_embed,
    parse_generate,
    parse_many,
    parse_model,
    parse_one_of_many,
    parse_rerank,
)
from mlxbridge.host.worker.bundle import Answer, Bundle
from mlxbridge.host.worker.results import usage_to_wire
from mlxbridge.types import TokenLogprob, TokenLogprobs, Usage


def test_generate_takes_defaults_for_what_is_left_out() -> None:
    request = parse_generate({"prompt": "hi", "temperature": None})
    assert (request.prompt, request.temperature, request.max_tokens, request.stop) == ("hi", 0.0, None, ())


def test_generate_reads_token_ids_as_little_endian() -> None:
    assert parse_generate({"prompt": struct.pack("<3I", 1, 2, 70_000)}).prompt == [1, 2, 70_000]


def test_generate_takes_one_stop_or_several() -> None:
    assert parse_generate({"prompt": "x", "stop": "a"}).stop == ("a",)
    assert parse_generate({"prompt": "x", "stop": ["a", "b"]}).stop == ("a", "b")


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "prompt"),
        ({"prompt": "x", "messages": []}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": b"123"}, "prompt"),
        ({"messages": "hi"}, "messages"),
        ({"prompt": "x", "stop": 1}, "stop"),
        ({"prompt": "x", "stop": [1]}, "stop"),
        ({"prompt": "x", "keep_alive": "soon"}, "keep_alive"),
        ({"prompt": "x", "keep_alive": -2}, "keep_alive"),
        ({"prompt": "x", "max_tokens": True}, "max_tokens"),
        ({"prompt": "x", "max_tokens": 1.5}, "max_tokens"),
        ({"prompt": "x", "temprature": 3}, "temprature"),
        ({"prompt": "x", "xtc_probability": "1", "temperature": 1}, "xtc_probability"),
        ({"prompt": "x", "xtc_probability": 0.5}, "xtc_probability"),
        ({"prompt": "x", "xtc_threshold": 0.6}, "xtc_threshold"),
        ({"prompt": "x", "response_format": "json"}, "response_format"),
        ({"prompt": "x", "response_format": {"type": "json"}}, "response_format.type"),
        (
            {"prompt": "x", "response_format": {"type": "regex", "pattern": "a"}, "ignore_eos": True},
            "ignore_eos",
        ),
        ({"prompt": "x", "logit_bias": {"1": 2.0}}, "logit_bias"),
        ({"prompt": "x", "logit_bias": [1, 2.0]}, "logit_bias"),
        ({"prompt": "x", "logit_bias": [[1]]}, "logit_bias"),
        ({"prompt": "x", "logit_bias": [[1, 2.0, 3]]}, "logit_bias"),
        ({"prompt": "x", "logit_bias": [["1", 2.0]]}, "logit_bias"),
        ({"prompt": "x", "logit_bias": [[True, 2.0]]}, "logit_bias"),
        ({"prompt": "x", "logit_bias": [[[], 2.0]]}, "logit_bias"),
        ({"prompt": "x", "logit_bias": [[1.0, 2.0]]}, "logit_bias"),
        ({"prompt": "x", "logit_bias": [[-1, 2.0]]}, "logit_bias"),
        ({"prompt": "x", "logit_bias": [[1, "2"]]}, "logit_bias"),
        ({"prompt": "x", "logit_bias": [[1, float("inf")]]}, "logit_bias"),
        ({"prompt": "x", "logit_bias": [[1, 2.0], [1, 3.0]]}, "logit_bias"),
        ({"prompt": "x", "repetition_penalty": 0}, "repetition_penalty"),
        ({"prompt": "x", "presence_penalty": True}, "presence_penalty"),
        ({"prompt": "x", "frequency_penalty": "1"}, "frequency_penalty"),
        ({"prompt": "x", "repetition_context_size": 0}, "repetition_context_size"),
        ({"prompt": "x", "presence_context_size": 1.5}, "presence_context_size"),
        ({"prompt": "x", "frequency_context_size": 1 << 40}, "frequency_context_size"),
        ({"prompt": "x", "stop_token_ids": 7}, "stop_token_ids"),
        ({"prompt": "x", "stop_token_ids": "7"}, "stop_token_ids"),
        ({"prompt": "x", "stop_token_ids": [7.0]}, "stop_token_ids"),
        ({"prompt": "x", "stop_token_ids": [-7]}, "stop_token_ids"),
        ({"prompt": "x", "ignore_eos": 1}, "ignore_eos"),
        ({"prompt": "x", "min_tokens": -1}, "min_tokens"),
        ({"prompt": "x", "min_tokens": 5, "max_tokens": 4}, "min_tokens"),
        ({"prompt": "x", "logprobs": 21}, "logprobs"),
        ({"prompt": "x", "logprobs": True}, "logprobs"),
        ({"prompt": "x", "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"prompt": "x", "reasoning": True}, "reasoning"),
        ({"messages": [], "tools": {}}, "tools"),
        ({"messages": [], "tool_choice": 7}, "tool_choice"),
        ({"messages": [], "max_reasoning_tokens": "9"}, "max_reasoning_tokens"),
        ({"messages": [], "chat_template_kwargs": "a"}, "chat_template_kwargs"),
        ({"prompt": "x", "speculation": "on"}, "speculation"),
        ({"prompt": "x", "speculation": True}, "speculation"),
        ({"prompt": "x", "max_draft_tokens": 16}, "max_draft_tokens"),
        ({"prompt": "x", "max_draft_tokens": "4"}, "max_draft_tokens"),
        ({"prompt": "x", "priority": "urgent"}, "priority"),
        ({"prompt": "x", "priority": 1}, "priority"),
        ({"prompt": "x", "priority": ["high"]}, "priority"),
    ],
)
def test_generate_refuses_by_name(params: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_generate(params)
    assert caught.value.details == {"field": field}


def test_generate_takes_every_param_there_is() -> None:
    given: dict[str, Any] = {
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "min_p": 0.1,
        "seed": 7,
        "xtc_probability": 0.5,
        "xtc_threshold": 0.2,
        "repetition_penalty": 1.1,
        "repetition_context_size": 1,
        "presence_penalty": 0.2,
        "presence_context_size": 2,
        "frequency_penalty": 0.3,
        "frequency_context_size": 3,
        "ignore_eos": True,
        "min_tokens": 4,
        "logprobs": 5,
        "speculation": "ngram",
        "max_draft_tokens": 6,
        "priority": "high",
    }
    chat = {
        "tools": [{"type": "function", "function": {"name": "now"}}],
        "tool_choice": {"name": "now"},
        "parallel_tool_calls": False,
        "reasoning": True,
        "max_reasoning_tokens": 5,
        "chat_template_kwargs": {"a": 1},
    }
    listed = {"stop": ["a"], "stop_token_ids": [5, 6], "logit_bias": [[5, -1], [7, 2.5]]}
    formats = {"ignore_eos": False, "response_format": {"type": "regex", "pattern": "a"}}
    assert parse_generate({"prompt": "x", **formats}).response_format == Source(
        "regex", "response_format.pattern", "a"
    )
    request = parse_generate({"model": "m", "prompt": "x", **given, **listed})
    assert {name: getattr(request, name) for name in given} == given
    assert (request.stop, request.stop_token_ids) == (("a",), (5, 6))
    assert request.logit_bias == {5: -1, 7: 2.5}
    asked = parse_generate({"messages": [{"role": "user", "content": "x"}], **chat})
    assert {name: getattr(asked, name) for name in chat} == chat
    others = {"model", "keep_alive", "prompt", "messages"}
    assert {*given, *chat, *listed, *formats, *others} == GENERATE_PARAMS


def test_spec_lists_every_param() -> None:
    text = Path(mlxbridge.protocol.__file__).with_name("SPEC.md").read_text()
    section = text[text.index("### generate\n") : text.index("### generate_many")]
    table = re.findall(r"^\| (`.*?) \|", section[: section.index("Answer:")], re.M)
    assert {name for cell in table for name in re.findall(r"`(\w+)`", cell)} == GENERATE_PARAMS


@pytest.mark.parametrize(
    ("method", "following", "params"),
    [("embed", "rerank", EMBED_PARAMS), ("rerank", "models", RERANK_PARAMS)],
)
def test_spec_lists_every_param_of_vectors_and_scores(
    method: str, following: str, params: frozenset[str]
) -> None:
    text = Path(mlxbridge.protocol.__file__).with_name("SPEC.md").read_text()
    section = text[text.index(f"### {method}\n") : text.index(f"### {following}\n")]
    table = re.findall(r"^\| `(\w+)` \|", section[: section.index("Answer:")], re.M)
    assert set(table) == params and len(table) == len(params)


def test_inputs_are_texts_and_token_ids() -> None:
    packed = struct.pack("<1000I", *range(1000))
    params = {"inputs": ["a", packed], "dtype": "float16", "normalize": None}
    request = parse_embed(params)
    assert (request.dtype, request.normalize) == ("float16", None)
    text, ids = request.inputs
    assert text == "a" and list(ids) == [*range(1000)]
    assert sys.getsizeof(ids) < estimate_bytes(params), "ids take no more than is counted for them"
    ranking = parse_rerank({"query": "a", "documents": ["b"], "top_n": 3, "model": "m", "keep_alive": "5m"})
    assert (ranking.query, ranking.documents, ranking.top_n, ranking.truncate) == ("a", ["b"], 3, False)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "inputs"),
        ({"inputs": "a"}, "inputs"),
        ({"inputs": [b"123"]}, "inputs[0]"),
        ({"inputs": ["a", [1]], "prompt": 3}, "prompt"),
        ({"inputs": ["a"], "dimension": 3}, "dimension"),
        ({"inputs": ["a"], "keep_alive": "soon"}, "keep_alive"),
    ],
)
def test_wrong_param_of_embed_is_refused_by_name(params: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_embed(params)
    assert caught.value.details["field"] == field


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"documents": []}, "query"),
        ({"query": "a"}, "documents"),
        ({"query": "a", "documents": ["b", 3]}, "documents[1]"),
        ({"query": "a", "documents": ["b"], "top_n": 0}, "top_n"),
        ({"query": "a", "documents": ["b"], "activation": "relu"}, "activation"),
        ({"query": "a", "documents": ["b"], "top_k": 3}, "top_k"),
    ],
)
def test_wrong_param_of_rerank_is_refused_by_name(params: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_rerank(params)
    assert caught.value.details["field"] == field


def test_requests_share_what_the_call_has_and_have_seeds_of_their_own() -> None:
    common, requests = parse_many(
        {"seed": 2**64 - 1, "top_k": 3, "temperature": None, "requests": [{"prompt": "a"}, {"prompt": "b"}]}
    )
    parsed = [parse_one_of_many(common, request, index) for index, request in enumerate(requests)]
    assert [request.prompt for request in parsed] == ["a", "b"]
    assert [request.seed for request in parsed] == [2**64 - 1, 0]
    assert all((request.top_k, request.priority) == (3, "low") for request in parsed)
    own = parse_one_of_many(common, {"messages": [], "seed": 5, "top_k": None, "stop": "x"}, 7)
    assert (own.seed, own.top_k, own.stop) == (5, 0, ("x",))
    assert parse_one_of_many({"priority": "high"}, {"prompt": "a"}, 7).seed is None


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "requests"),
        ({"requests": {}}, "requests"),
        ({"requests": [], "prompt": "x"}, "prompt"),
        ({"requests": [], "messages": []}, "messages"),
        ({"requests": [], "top_p": 0}, "top_p"),
        ({"requests": [], "priority": "lowest"}, "priority"),
    ],
)
def test_many_refuses_by_name(params: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_many(params)
    assert caught.value.details == {"field": field}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ("x", "requests"),
        ({}, "prompt"),
        ({"prompt": "x", "model": "m"}, "model"),
        ({"prompt": "x", "priority": None}, "priority"),
        ({"prompt": "x", "requests": []}, "requests"),
        ({"prompt": "x", "min_tokens": 5}, "min_tokens"),
    ],
)
def test_one_of_many_refuses_by_name(request_: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_one_of_many({"max_tokens": 3}, request_, 0)
    assert caught.value.details == {"field": field}


def test_spec_lists_every_key_of_an_item() -> None:
    text = Path(mlxbridge.protocol.__file__).with_name("SPEC.md").read_text()
    section = text[text.index("| key of an ITEM") : text.index("| key of the RESULT")]
    usage = Usage(finish_reason="stop", prompt_tokens=1, completion_tokens=1)
    answer = Answer(3)
    answer.add(Row(1, [5], "a", logprobs=[TokenLogprobs(TokenLogprob(5, -1.0, b"a"), ())], parts=["b"]))
    told = {*answer.item(usage), *answer.item(InternalError("x"))} - usage_to_wire(usage).keys()
    named = set(re.findall(r"^\| `(\w+)` \|", section, re.M))
    assert named == told
    result = text[text.index("| key of the RESULT") : text.index("### embed")]
    cells = re.findall(r"^\| (`.*?) \|", result, re.M)
    bundle = Bundle(1, {"requests": []}, NOBODY)
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == {"model", *bundle.result()}


def test_spec_tells_this_hosts_bounds() -> None:
    text = " ".join(Path(mlxbridge.protocol.__file__).with_name("SPEC.md").read_text().split())
    for bound in (
        f"at most {checks.MAX_STOPS} `stop` strings of {checks.MAX_STOP_CHARS:,} characters",
        f"{checks.MAX_STOP_TOKEN_IDS} `stop_token_ids`",
        f"{checks.MAX_LOGIT_BIAS_TOKENS:,} pairs of `logit_bias`",
        f"from −{checks.MAX_LOGIT_BIAS:,.0f} to {checks.MAX_LOGIT_BIAS:,.0f}",
        f"from 1/{checks.MAX_REPETITION_PENALTY:.0f} to {checks.MAX_REPETITION_PENALTY:.0f}",
        f"other penalties from −{checks.MAX_PENALTY:.0f} to {checks.MAX_PENALTY:.0f}",
        f"context sizes up to {checks.MAX_CONTEXT_SIZE:,}",
        f"takes {MAX_CHARS:,} characters, schemas of {json_schema.MAX_DEPTH} levels",
        f"{json_schema.MAX_PATTERN_PROPERTIES} `patternProperties`",
        f"given up after {TIMEOUT_S:.0f} seconds",
        f"| `xtc_threshold` | 0 to {checks.MAX_XTC_THRESHOLD} |",
        f"| `logprobs` | number, 0 to {MAX_TOP_LOGPROBS}:",
        f"number, from 1: how many last tokens of prompt and answer the penalty looks at | {DEFAULT_CONTEXT_SIZE} |",
    ):
        assert bound in text, bound


def test_spec_lists_every_key_of_a_result() -> None:
    text = Path(mlxbridge.protocol.__file__).with_name("SPEC.md").read_text()
    section = text[text.index("Answer: TOKENS") : text.index("### generate_many")]
    table = re.findall(r"^\| (`.*?) \|", section, re.M)
    usage = Usage(
        finish_reason="stop",
        prompt_tokens=1,
        completion_tokens=1,
        reasoning_tokens=1,
        draft_tokens=1,
        stop_string="a",
        stop_token_id=1,
    )
    named = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    assert named == {"model", *usage_to_wire(usage)}


def test_message_repeats_only_the_beginning_of_a_value() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_generate({"prompt": "x", "temperature": "9" * 100_000})
    assert len(caught.value.message) <= 300


def test_nested_value_is_refused_like_any_other() -> None:
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(InvalidArgument, match="temperature"):
        parse_generate({"prompt": "x", "temperature": nested})


def test_method_without_parameters_says_so() -> None:
    with pytest.raises(InvalidArgument, match="it takes none"):
        check_names("status", {"verbose": True}, frozenset())


def test_model_must_be_a_name() -> None:
    assert parse_model({}) is None
    assert parse_model({"model": "demo"}) == "demo"
    with pytest.raises(InvalidArgument, match="model"):
        parse_model({"model": 7})


def test_nearest_looks_at_a_long_names_beginning_only() -> None:
    compared: list[str] = []

    class Name(str):
        __slots__ = ()

        def __getitem__(self, key: Any) -> str:
            compared.append(got := str.__getitem__(self, key))
            return got

        def __str__(self) -> str:
            return self

    assert nearest(Name("top_pp" + "x" * 4_000_000), ["top_p"]) is None
    assert [len(text) for text in compared] == [100]
    assert nearest("top_pp", ["seed", "top_p"]) == "top_p"


@pytest.mark.parametrize(
    ("value", "least"),
    [
        ({"prompt": "x" * 5000}, 5000),
        ({"prompt": b"x" * 5000}, 5000),
        ({"messages": [{"role": "user", "content": "x" * 700}] * 10}, 7000),
        ({"messages": [{"deep": [["x" * 900]]}]}, 900),
        ({"messages": ["x" * 3_000_000, *range(20_000)]}, 3_000_000),
        ({"x" * 5000: 1}, 5000),
    ],
)
def test_estimate_counts_text_wherever_it_is(value: Any, least: int) -> None:
    assert least <= estimate_bytes(value) <= 2 * least + 6_000_000 * (least > 1_000_000) + 4000
