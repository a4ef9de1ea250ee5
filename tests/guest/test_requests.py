from __future__ import annotations

import struct
from typing import Any

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.guest.requests import deadline_ms, generate_params, read_model, read_status

NOTHING: dict[str, Any] = dict.fromkeys(
    ["prompt", "messages", "model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop"]
)


def params(**given: Any) -> dict[str, Any]:
    return generate_params(**{**NOTHING, **given})


def test_only_what_was_given_is_sent() -> None:
    assert params(prompt="hi", temperature=0.0) == {"prompt": "hi", "temperature": 0.0}


def test_token_ids_travel_as_little_endian_numbers() -> None:
    assert params(prompt=[1, 70_000])["prompt"] == struct.pack("<2I", 1, 70_000)


def test_one_stop_becomes_a_list() -> None:
    assert params(prompt="x", stop="end")["stop"] == ["end"]
    assert params(prompt="x", stop=("a", "b"))["stop"] == ["a", "b"]


@pytest.mark.parametrize("given", [{}, {"prompt": "a", "messages": []}])
def test_prompt_and_messages_exclude_each_other(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="either prompt"):
        params(**given)


@pytest.mark.parametrize("prompt", [[-1], [1 << 32], ["a"], [1.5], 7])
def test_bad_token_ids_are_refused(prompt: Any) -> None:
    with pytest.raises(UsageError, match="token ids"):
        params(prompt=prompt)


def test_deadline_is_in_milliseconds() -> None:
    assert deadline_ms(None) is None
    assert deadline_ms(1.5) == 1500
    assert deadline_ms(0.00001) == 1


@pytest.mark.parametrize("timeout", [0, -1, "1", float("inf")])
def test_bad_timeout_is_refused(timeout: Any) -> None:
    with pytest.raises(UsageError, match="timeout"):
        deadline_ms(timeout)


def test_unknown_facts_about_a_model_are_kept_as_details() -> None:
    model = read_model({"name": "a", "state": "ready", "source": "demo", "layers": 3})
    assert (model.name, model.state, model.source, model.details) == ("a", "ready", "demo", {"layers": 3})


def test_status_survives_a_host_that_says_less() -> None:
    assert read_status({}).models == []
