from __future__ import annotations

import struct
from typing import Any, cast

import pytest

from mlxbridge.errors import UsageError
from mlxbridge.guest.call import read_usage
from mlxbridge.guest.requests import (
    NOT_SENT,
    choices,
    deadline_ms,
    generate_params,
    load_params,
    read_model,
    read_status,
    request_params,
)
from mlxbridge.host.params import GENERATE_PARAMS, parse_generate
from mlxbridge.protocol.codec import decode
from mlxbridge.types import GenerateOptions, MemoryStatus, Usage
from tests.helpers.wire import pack


def params(prompt: Any = None, **given: Any) -> dict[str, Any]:
    return generate_params(prompt, cast(GenerateOptions, given))


def test_only_what_was_given_is_sent() -> None:
    assert params(prompt="hi", temperature=0.0) == {"prompt": "hi", "temperature": 0.0}
    assert params(prompt="hi", temperature=None, stop=None, timeout=3.0) == {"prompt": "hi"}


def test_options_are_the_params_of_the_host() -> None:
    given = {*GenerateOptions.__annotations__, "prompt"} - NOT_SENT
    assert given == GENERATE_PARAMS


def test_name_that_is_no_text_is_refused() -> None:
    odd: Any = {"prompt": "x", 5: 6}
    with pytest.raises(UsageError, match="^5: there is no such parameter"):
        request_params(odd)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("temprature", "'temperature'"), ("stop_tokens", "'stop_token_ids'"), ("strem", "'stream'")],
)
def test_wrong_name_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"^{name}: there is no such parameter; did you mean {hint}"):
        params(prompt="x", **{name: 1})


@pytest.mark.parametrize(
    ("name", "where"),
    [("system", r"conversation\(\) has it"), ("stream", "a stream without"), ("n", "for several")],
)
def test_what_others_take_is_told_where_it_goes(name: str, where: str) -> None:
    with pytest.raises(UsageError, match=f"^{name}: there is no such parameter; .*{where}"):
        params(prompt="x", **{name: "You answer briefly."})


def test_tool_is_named_in_openais_form_too() -> None:
    openais = {"type": "function", "function": {"name": "now"}}
    for choice in (openais, {"name": "now"}):
        assert params(prompt="x", tool_choice=choice)["tool_choice"] == {"name": "now"}
    odd = {"type": "function", "function": {"name": "now"}, "strict": True}
    assert params(prompt="x", tool_choice=odd)["tool_choice"] == odd


def test_name_like_none_is_refused_with_all_there_are() -> None:
    with pytest.raises(UsageError, match="there are chat_template_kwargs, .*xtc_threshold"):
        params(prompt="x", qqq=1)


def test_logit_bias_travels_as_pairs() -> None:
    assert params("x", logit_bias={5: -1, 7: 2.5})["logit_bias"] == [[5, -1], [7, 2.5]]


def test_what_is_encoded_is_what_the_host_reads() -> None:
    request = parse_generate(
        decode(
            pack(params("x", logit_bias={5: -1.0}, stop_token_ids=range(3), stop=("a",), logprobs=0, seed=3))
        )
    )
    assert (request.logit_bias, request.stop_token_ids, request.stop) == ({5: -1.0}, (0, 1, 2), ("a",))
    assert (request.logprobs, request.seed) == (0, 3)


@pytest.mark.parametrize(
    "given",
    [
        {"logit_bias": [[1, 2]]},
        {"stop_token_ids": "12"},
        {"stop_token_ids": 12},
        {"stop_token_ids": {}},
        {"stop": {"x": 1}},
        {"stop": b"x"},
        {"stop": 7},
        {"seed": 2**64},
        {"max_tokens": 10**30},
        {"max_tokens": 10**6000},
        {"top_k": -(2**70)},
        {"messages": 5},
        {"temprature": 1},
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(given: dict[str, Any]) -> None:
    (field,) = given
    with pytest.raises(UsageError, match=f"^{field}: ") as caught:
        params(None if field == "messages" else "x", **given)
    assert caught.value.details == {"field": field}
    assert len(caught.value.message) < 200


def test_choices_have_seeds_of_their_own() -> None:
    assert [each["seed"] for each in choices({"seed": 7}, 3)] == [7, 8, 9]
    assert [each["seed"] for each in choices({"seed": 2**64 - 1}, 3)] == [2**64 - 1, 0, 1]
    assert [each["seed"] for each in choices({"seed": -1}, 3)] == [-1, 0, 1]
    assert choices({"prompt": "x"}, 2) == [{"prompt": "x"}] * 2


@pytest.mark.parametrize("count", [0, -1, 1.0, True, "2", 1025])
def test_bad_number_of_choices_is_refused(count: Any) -> None:
    with pytest.raises(UsageError, match="^n: must be a whole number from 1 to 1024") as caught:
        choices({}, count)
    assert caught.value.details == {"field": "n"}


def test_token_ids_travel_as_little_endian_numbers() -> None:
    assert params(prompt=[1, 70_000])["prompt"] == struct.pack("<2I", 1, 70_000)


def test_one_stop_becomes_a_list() -> None:
    assert params(prompt="x", stop="end")["stop"] == ["end"]
    assert params(prompt="x", stop=("a", "b"))["stop"] == ["a", "b"]


@pytest.mark.parametrize(("prompt", "found"), [(7, "int"), (b"text", "bytes"), (True, "bool")])
def test_prompt_of_no_known_kind_is_told_which_there_are(prompt: Any, found: str) -> None:
    with pytest.raises(UsageError, match=f"prompt: must be text or a list of token ids, not {found}; a chat"):
        params(prompt=prompt)


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


@pytest.mark.parametrize("timeout", [0, -1, "1", True, float("inf")])
def test_bad_timeout_is_refused(timeout: Any) -> None:
    with pytest.raises(UsageError, match="^timeout: ") as caught:
        deadline_ms(timeout)
    assert caught.value.details == {"field": "timeout"}


def test_unknown_facts_about_a_model_are_kept_as_details() -> None:
    model = read_model({"name": "a", "state": "ready", "source": "demo", "layers": 3})
    assert (model.name, model.state, model.source, model.details) == ("a", "ready", "demo", {"layers": 3})


def test_status_survives_a_host_that_says_less() -> None:
    assert read_status({}).models == []
    assert read_status({}).memory == MemoryStatus(total=None, budget=None, reserved=0, used=0)


def test_status_tells_what_models_have() -> None:
    memory = {"total_bytes": 64, "budget_bytes": 48, "reserved_bytes": 30, "used_bytes": 7}
    status = read_status({"chip": "M4", "memory": memory})
    assert (status.chip, status.memory) == ("M4", MemoryStatus(total=64, budget=48, reserved=30, used=7))


def test_how_long_a_model_stays_is_for_all_prompts() -> None:
    assert params("x", keep_alive="30m")["keep_alive"] == "30m"
    assert load_params("m", None) == {"model": "m"}
    assert load_params("m", -1) == {"model": "m", "keep_alive": -1}
    with pytest.raises(UsageError, match="^keep_alive: is for all prompts"):
        request_params({"prompt": "x", "keep_alive": 0})


@pytest.mark.parametrize("odd", ["7", None, [1], {}, True, float("nan"), float("inf")])
def test_what_a_host_says_with_a_wrong_type_counts_as_missing(odd: Any) -> None:
    numbers = (
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "queue_ms",
        "prefill_ms",
        "decode_ms",
        "draft_tokens",
        "accepted_tokens",
    )
    assert read_usage(dict.fromkeys(numbers, odd)) == Usage(
        finish_reason="stop", prompt_tokens=0, completion_tokens=0
    )
    assert read_status(
        dict.fromkeys(("uptime_ms", "memory", "connections", "calls", "models"), odd)
    ) == read_status({})
