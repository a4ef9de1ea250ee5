"""A model's tokenizer alone, in vLLM's shape."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

TEXT = "The capital of France is 東京."


@pytest.mark.parametrize("start", ["", "/v1"])
def test_text_becomes_tokens_and_text_again(http: httpx.Client, start: str) -> None:
    found = http.post(
        f"{start}/tokenize", json={"model": "demo", "prompt": TEXT, "add_special_tokens": False}
    ).json()
    assert found["count"] == len(found["tokens"]) > 4
    assert (found["max_model_len"], found["token_strs"]) == (1024, None)
    back = http.post(f"{start}/detokenize", json={"model": "demo", "tokens": found["tokens"]}).json()
    assert back == {"prompt": TEXT}


def test_chat_is_what_the_model_reads_of_it(http: httpx.Client) -> None:
    messages = [{"role": "user", "content": "What is 27 + 15?"}]
    asked: dict[str, Any] = {"messages": messages, "add_generation_prompt": True, "return_token_strs": False}
    found = http.post("/tokenize", json=asked).json()  # of the default model
    counted = found["count"]
    assert found["max_model_len"] == 1024
    answer = http.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 1}).json()
    assert answer["usage"]["prompt_tokens"] == counted
    without = http.post("/tokenize", json={**asked, "add_generation_prompt": False}).json()["count"]
    assert without < counted


@pytest.mark.parametrize(
    ("path", "given", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "x", "messages": []}, "prompt"),
        ("/tokenize", {"prompt": ["x"]}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": ["x"]}, "messages[0]"),
        (
            "/tokenize",
            {"messages": [{"role": "user", "content": "x"}], "continue_final_message": True},
            "continue_final_message",
        ),
        ("/tokenize", {"prompt": "x", "return_token_strs": True}, "return_token_strs"),
        ("/tokenize", {"prompt": "x", "add_specials": True}, "add_specials"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": ["x"]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/detokenize", {"tokens": [1], "skip_special_tokens": 1}, "skip_special_tokens"),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused_by_name(http: httpx.Client, path: str, given: Any, param: str) -> None:
    answer = http.post(path, json={"model": "demo", **given})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
