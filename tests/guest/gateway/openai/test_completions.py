"""Prompts without a chat through openai's own clients."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.guest.gateway.openai.sdk import check

PROMPT = "The capital of France is"


def test_completion_is_what_openai_gives(client: Any) -> None:
    asked: dict[str, Any] = {"model": "demo", "prompt": PROMPT, "max_tokens": 3, "logprobs": 2}
    found = check(client.completions.create(**asked))
    (choice,) = found.choices
    told = choice.logprobs
    assert (found.object, choice.finish_reason, "".join(told.tokens)) == (
        "text_completion",
        "length",
        choice.text,
    )
    assert all(len(top) == 2 for top in told.top_logprobs)
    assert choice.text[told.text_offset[1] :].startswith(told.tokens[1])
    pieces = [piece.choices[0] for piece in client.completions.create(stream=True, **asked)]
    assert "".join(piece.text for piece in pieces) == choice.text
    offsets = [piece.logprobs.text_offset[0] for piece in pieces if piece.logprobs]
    assert offsets == told.text_offset
    assert [piece.finish_reason for piece in pieces] == [None, None, None, "length"]


def test_prompts_may_be_several_and_tokens_and_repeated(client: Any, http: httpx.Client) -> None:
    ids = http.post("/tokenize", json={"model": "demo", "prompt": PROMPT}).json()["tokens"]
    asked: dict[str, Any] = {"model": "demo", "max_tokens": 3}
    found = check(client.completions.create(prompt=[PROMPT, "Once upon"], n=2, echo=True, **asked))
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    assert [choice.text[:4] for choice in found.choices] == ["The ", "The ", "Once", "Once"]
    assert found.usage.completion_tokens == 12
    (same,) = client.completions.create(prompt=ids, **asked).choices
    assert PROMPT + same.text == found.choices[0].text
    texts = [""] * 4
    options: Any = {"include_usage": True}
    stream = client.completions.create(
        prompt=[PROMPT, "Once upon"], n=2, echo=True, stream=True, stream_options=options, **asked
    )
    *pieces, last = stream
    for piece in pieces:
        texts[piece.choices[0].index] += piece.choices[0].text
    assert texts == [choice.text for choice in found.choices]
    assert (last.choices, last.usage.total_tokens) == ([], found.usage.total_tokens)


def test_answers_have_sixteen_tokens_unless_more_are_wanted(blocking: Any) -> None:
    count = "<|user|>Count from 1 to 20.<|end|><|assistant|>"
    assert blocking.completions.create(model="demo", prompt=count).usage.completion_tokens == 16


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"prompt": "x", "suffix": "y"}, "suffix"),
        ({"prompt": "x", "best_of": 3}, "best_of"),
        ({"prompt": "x", "echo": True, "logprobs": 1}, "echo"),
        ({"prompt": "x", "echo": 1}, "echo"),
        ({"prompt": [1], "echo": True}, "echo"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [{}]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": ["x"] * 600, "n": 2}, "n"),
        ({}, "prompt"),
        ({"prompt": "x", "messages": []}, "messages"),
        ({"prompt": "x", "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ],
    ids=str,
)
def test_what_the_host_cannot_do_is_refused_by_name(http: httpx.Client, given: Any, param: str) -> None:
    answer = http.post("/v1/completions", json={"model": "demo", **given})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
