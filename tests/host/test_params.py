from __future__ import annotations

import struct
from typing import Any

import pytest

from mlxbridge.errors import InvalidArgument
from mlxbridge.host.params import check_names, estimate_bytes, nearest, parse_generate, parse_model


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
        ({"prompt": "x", "max_tokens": True}, "max_tokens"),
        ({"prompt": "x", "max_tokens": 1.5}, "max_tokens"),
        ({"prompt": "x", "logprobs": 3}, "logprobs"),
        ({"prompt": "x", "temprature": 3}, "temprature"),
    ],
)
def test_generate_refuses_by_name(params: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_generate(params)
    assert caught.value.details == {"field": field}


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
