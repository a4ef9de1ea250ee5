from __future__ import annotations

from typing import Any

import pytest

from mlxbridge.errors import InvalidArgument
from mlxbridge.host.engine.checks import (
    MAX_CONTEXT_SIZE,
    MAX_LOGIT_BIAS_TOKENS,
    MAX_STOP_CHARS,
    MAX_STOP_TOKEN_IDS,
    MAX_STOPS,
    check_request,
)
from mlxbridge.host.engine.interface import MAX_DRAFT_TOKENS, GenerateRequest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", True),
        ("max_tokens", 2.5),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.1),
        ("min_p", -1),
        ("min_p", 2),
        ("top_k", -1),
        ("top_k", 1.0),
        ("seed", "7"),
        ("seed", 2**64),
        ("seed", -(2**63) - 1),
        ("stop", ("",)),
        ("stop", "word"),
        ("stop", (1,)),
        ("stop", ("a",) * (MAX_STOPS + 1)),
        ("stop", ("a" * (MAX_STOP_CHARS + 1),)),
        ("stop_token_ids", 3),
        ("stop_token_ids", "3"),
        ("stop_token_ids", (-1,)),
        ("stop_token_ids", (1.0,)),
        ("stop_token_ids", (1,) * (MAX_STOP_TOKEN_IDS + 1)),
        ("ignore_eos", 1),
        ("min_tokens", -1),
        ("min_tokens", True),
        ("min_tokens", 2**31),
        ("logprobs", -1),
        ("logprobs", 21),
        ("logprobs", True),
        ("logit_bias", [(1, 2.0)]),
        ("logit_bias", {"1": 2.0}),
        ("logit_bias", {-1: 2.0}),
        ("logit_bias", {1: "2"}),
        ("logit_bias", {1: float("-inf")}),
        ("logit_bias", {1: 10_001}),
        ("logit_bias", dict.fromkeys(range(MAX_LOGIT_BIAS_TOKENS + 1), 1.0)),
        ("repetition_penalty", 0),
        ("repetition_penalty", -1.0),
        ("repetition_penalty", 101),
        ("repetition_penalty", None),
        ("repetition_context_size", 0),
        ("presence_penalty", -10.5),
        ("presence_penalty", float("nan")),
        ("presence_context_size", 2.0),
        ("frequency_penalty", 11),
        ("frequency_context_size", MAX_CONTEXT_SIZE + 1),
        ("xtc_probability", -0.1),
        ("xtc_probability", 1.1),
        ("xtc_probability", 0.5),  # greedy
        ("xtc_threshold", 0.6),
        ("xtc_threshold", "low"),
        ("speculation", "on"),
        ("speculation", ["ngram"]),
        ("max_draft_tokens", 0),
        ("max_draft_tokens", MAX_DRAFT_TOKENS + 1),
        ("max_draft_tokens", 2.0),
        ("priority", "urgent"),
        ("priority", ["high"]),
    ],
)
def test_check_names_the_wrong_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_request(GenerateRequest(prompt="x", **{field: value}))
    assert caught.value.details == {"field": field}
    assert field in caught.value.message


def test_check_wants_no_more_tokens_than_it_allows() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_request(GenerateRequest(prompt="x", max_tokens=3, min_tokens=4))
    assert caught.value.details == {"field": "min_tokens"}
    check_request(GenerateRequest(prompt="x", max_tokens=4, min_tokens=4))


def test_check_wants_prompt_or_messages() -> None:
    for request in (GenerateRequest(), GenerateRequest(prompt="x", messages=[])):
        with pytest.raises(InvalidArgument):
            check_request(request)


def test_check_accepts_the_edges() -> None:
    check_request(
        GenerateRequest(
            prompt="x", max_tokens=1, temperature=0, top_p=1, min_p=1, top_k=0, seed=2**64 - 1, stop=("a",)
        )
    )
    check_request(GenerateRequest(messages=[], temperature=2.5, seed=-(2**63)))
    check_request(
        GenerateRequest(
            prompt="x",
            temperature=1,
            stop_token_ids=(0,) * MAX_STOP_TOKEN_IDS,
            logprobs=0,
            logit_bias={0: -10_000, 1: 10_000},
            repetition_penalty=0.01,
            repetition_context_size=1,
            presence_penalty=-10,
            presence_context_size=MAX_CONTEXT_SIZE,
            frequency_penalty=10,
            xtc_probability=1,
            xtc_threshold=0.5,
            priority="low",
        )
    )
