"""Params of ``tokenize`` and ``detokenize``: what is no such thing is refused by its name."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from mlxbridge.errors import InvalidArgument
from mlxbridge.guest.tokens import TOKENIZE_OPTIONS
from mlxbridge.host.engine.token_request import MAX_CHARS, MAX_TOKENS
from mlxbridge.host.token_params import TOKENIZE_PARAMS, parse_detokenize, parse_tokenize

CHAT = {"messages": [{"role": "user", "content": "x"}]}


def test_what_is_left_out_has_defaults() -> None:
    request = parse_tokenize({"prompt": "x", "add_special_tokens": None, "count_only": None})
    assert (request.source.prompt, request.add_special_tokens, request.count_only) == ("x", None, False)
    assert parse_tokenize(CHAT).add_generation_prompt
    assert list(parse_detokenize({"token_ids": struct.pack("<2I", 1, 70_000)}).token_ids) == [1, 70_000]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "prompt"),
        ({"prompt": "x", **CHAT}, "prompt"),
        ({"prompt": struct.pack("<I", 1)}, "prompt"),
        ({"prompt": "x" * (MAX_CHARS + 1)}, "prompt"),
        ({"prompt": "x", "add_special_tokens": 1}, "add_special_tokens"),
        ({**CHAT, "add_special_tokens": True}, "add_special_tokens"),
        ({"prompt": "x", "add_generation_prompt": False}, "add_generation_prompt"),
        ({"prompt": "x", "count_only": "yes"}, "count_only"),
        ({"prompt": "x", "temperature": 1}, "temperature"),
        ({"prompt": "x", "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({**CHAT, "tool_choice": "never"}, "tool_choice"),
        ({"prompt": "x", "model": "m", "keep_alive": "soon"}, "keep_alive"),
    ],
)
def test_tokenize_refuses_by_name(params: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_tokenize(params)
    assert caught.value.details == {"field": field}


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "token_ids"),
        ({"token_ids": [1, 2]}, "token_ids"),
        ({"token_ids": b"123"}, "token_ids"),
        ({"token_ids": bytes(4 * (MAX_TOKENS + 1))}, "token_ids"),
        ({"token_ids": b"", "skip_special_tokens": 1}, "skip_special_tokens"),
        ({"token_ids": b"", "prompt": "x"}, "prompt"),
    ],
)
def test_detokenize_refuses_by_name(params: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_detokenize(params)
    assert caught.value.details == {"field": field}


def test_options_of_the_guest_are_the_params_of_the_host() -> None:
    assert TOKENIZE_OPTIONS - {"timeout"} == TOKENIZE_PARAMS - {"prompt", "messages", "count_only"}
