"""Options and durations as Ollama's clients give them, and what is refused of them by name."""

from __future__ import annotations

from typing import Any

import pytest

from mlxbridge.guest.gateway.ollama.durations import read_keep_alive
from mlxbridge.guest.gateway.ollama.options import HARMLESS, check_settings, read_sampling
from mlxbridge.guest.gateway.problem import Problem

OFF = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {}),
        (
            {"num_predict": 5, "temperature": 0.5, "top_k": 40.0},
            {"max_tokens": 5, "temperature": 0.5, "top_k": 40},
        ),
        ({"top_p": 0.9, "min_p": 0.1, "stop": ["a"]}, {"top_p": 0.9, "min_p": 0.1, "stop": ["a"]}),
        ({"num_predict": -1, "seed": -1, "temperature": None}, {}),
        ({"num_predict": -2, "seed": 7}, {"seed": 7}),
        (
            {"repeat_penalty": 1.1, "frequency_penalty": 0.5},
            {
                "repetition_penalty": 1.1,
                "repetition_context_size": 64,
                "frequency_penalty": 0.5,
                "frequency_context_size": 64,
            },
        ),
        (
            {"repeat_last_n": -1, "presence_penalty": 1.0},
            {
                "presence_penalty": 1.0,
                "presence_context_size": 4096,
                "repetition_context_size": 4096,
                "frequency_context_size": 4096,
            },
        ),
        ({"repeat_last_n": 0, "repeat_penalty": 1.1}, OFF),
        ({"min_tokens": 2, "priority": "low"}, {"min_tokens": 2, "priority": "low"}),
        ({"mirostat": 0, "tfs_z": 1.0, "typical_p": 1, "penalize_newline": True, "vocab_only": False}, {}),
    ],
)
def test_options_are_the_hosts(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert read_sampling(given) == wanted


def test_settings_of_the_machine_change_nothing() -> None:
    assert read_sampling({**dict.fromkeys(HARMLESS, 1), "num_ctx": 2048}) == {}
    check_settings({**dict.fromkeys(HARMLESS, 1), "num_ctx": 2048})


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"mirostat": 1}, "mirostat"),
        ({"typical_p": 0.7}, "typical_p"),
        ({"tfs_z": 0.5}, "tfs_z"),
        ({"penalize_newline": False}, "penalize_newline"),
        ({"vocab_only": True}, "vocab_only"),
        ({"f16_kv": True}, "f16_kv"),
        ({"logits_all": True}, "logits_all"),
        ({"num_ctx": 0}, "num_ctx"),
        ({"num_ctx": "8k"}, "num_ctx"),
        ({"top_k": 1.5}, "top_k"),
        ({"num_predict": True}, "num_predict"),
        ({"topp": 0.5}, "topp"),
    ],
)
def test_option_that_cannot_be_honoured_is_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(Problem) as refused:
        read_sampling(given)
    assert (refused.value.status, refused.value.field) == (400, f"options.{field}")
    assert refused.value.message.startswith(f"options.{field}: ")


def test_vectors_are_not_sampled() -> None:
    with pytest.raises(Problem, match=r"options\.temperature: is for answers"):
        check_settings({"temperature": 0.5})
    check_settings({"temperature": None})


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, None),
        (0, 0),
        (2.5, 2.5),
        (-3, -1),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("300ms", pytest.approx(0.3)),
        ("-1m", -1),
        ("0s", 0),
        ("2d", "2d"),  # for the host to say
        ("soon", "soon"),
    ],
)
def test_keep_alive_is_as_go_writes_it(given: Any, wanted: Any) -> None:
    assert read_keep_alive(given) == wanted


@pytest.mark.parametrize("given", [True, [], {"minutes": 5}])
def test_keep_alive_that_is_no_time_is_named(given: Any) -> None:
    with pytest.raises(Problem, match="keep_alive: must be seconds"):
        read_keep_alive(given)
