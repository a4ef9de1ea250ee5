"""Refusing a request that no engine could honour, by the name of the field that is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, get_args

from mlxbridge.host.engine.interface import MAX_DRAFT_TOKENS, MAX_TOP_LOGPROBS, GenerateRequest
from mlxbridge.host.engine.refusal import invalid, shown
from mlxbridge.host.engine.text.chat_checks import check_chat
from mlxbridge.types import Priority, Speculation

MAX_STOPS = 64
MAX_STOP_CHARS = 4096  # all stop strings of a call together; matching takes a table row for each character
MAX_STOP_TOKEN_IDS = 64
# A batch of 64 such rows changes 65,536 logits a step, and is told which ones when a row comes or goes.
MAX_LOGIT_BIAS_TOKENS = 1024
# As many last tokens of each row are kept on the device and looked up every step: 1 MiB for 64 rows.
MAX_CONTEXT_SIZE = 4096
# Beyond these, logits of 16 bits (at most 65,504) could overflow: 4,096 times the frequency penalty, say.
MAX_LOGIT_BIAS = 10_000.0
MAX_PENALTY = 10.0
MAX_REPETITION_PENALTY = 100.0
MAX_XTC_THRESHOLD = 0.5  # mlx_lm's; the likeliest token alone can be above it


def check_request(request: GenerateRequest) -> None:
    """Check everything that needs no model.

    Raises:
        InvalidArgument: a field has a wrong type or value; ``details["field"]`` names it.
    """
    if (request.prompt is None) == (request.messages is None):
        raise invalid("prompt", "or messages must be given, and not both")
    _check_sampling(request)
    _check_xtc(request)
    _check_logit_bias(request.logit_bias)
    _check_penalties(request)
    _check_stop(request.stop)
    _check_end(request)
    check_chat(request)
    if request.logprobs is not None:
        _check_int("logprobs", request.logprobs, low=0, high=MAX_TOP_LOGPROBS)
    _check_choice("priority", request.priority, get_args(Priority))
    if request.speculation is not None:
        _check_choice("speculation", request.speculation, get_args(Speculation))
    if request.max_draft_tokens is not None:
        _check_int("max_draft_tokens", request.max_draft_tokens, low=1, high=MAX_DRAFT_TOKENS)
    if request.max_tokens is not None:
        _check_int("max_tokens", request.max_tokens, low=1)
        if request.min_tokens > request.max_tokens:
            raise invalid(
                "min_tokens", f"is {request.min_tokens}, more than max_tokens, {request.max_tokens}"
            )
    if request.seed is not None:
        _check_int("seed", request.seed, low=-(2**63), high=2**64 - 1)
    if request.ignore_eos and (request.response_format is not None or request.has_to_call):
        held_to = "tool_choice" if request.has_to_call else "response_format"
        raise invalid("ignore_eos", f"goes against {held_to}, which says where the answer ends")
    if request.ignore_eos and request.holds_calls:
        raise invalid(
            "ignore_eos", "goes against strict tools, behind whose calls the answer may have to end"
        )


def _check_sampling(request: GenerateRequest) -> None:
    if _number("temperature", request.temperature) < 0:
        raise invalid("temperature", f"must be 0 (greedy) or more, not {request.temperature}")
    if not 0 < _number("top_p", request.top_p) <= 1:
        raise invalid("top_p", f"must be above 0 and at most 1 (off), not {request.top_p}")
    if not 0 <= _number("min_p", request.min_p) <= 1:
        raise invalid("min_p", f"must be between 0 (off) and 1, not {request.min_p}")
    _check_int("top_k", request.top_k, low=0)


def _check_xtc(request: GenerateRequest) -> None:
    _check_range("xtc_probability", request.xtc_probability, low=0, high=1)
    _check_range("xtc_threshold", request.xtc_threshold, low=0, high=MAX_XTC_THRESHOLD)
    if request.xtc_probability and not request.temperature:
        raise invalid(
            "xtc_probability", "needs a temperature above 0: a greedy answer takes the likeliest token"
        )


def _check_logit_bias(bias: Any) -> None:
    if not isinstance(bias, Mapping):
        raise invalid("logit_bias", f"must map token ids to numbers, not be {shown(bias)}")
    if len(bias) > MAX_LOGIT_BIAS_TOKENS:
        raise invalid("logit_bias", f"takes at most {MAX_LOGIT_BIAS_TOKENS} tokens, not {len(bias)}")
    for token, value in bias.items():
        _check_int("logit_bias", token, low=0)
        _check_range("logit_bias", value, low=-MAX_LOGIT_BIAS, high=MAX_LOGIT_BIAS)


def _check_penalties(request: GenerateRequest) -> None:
    _check_range(
        "repetition_penalty",
        request.repetition_penalty,
        low=1 / MAX_REPETITION_PENALTY,
        high=MAX_REPETITION_PENALTY,
    )
    _check_range("presence_penalty", request.presence_penalty, low=-MAX_PENALTY, high=MAX_PENALTY)
    _check_range("frequency_penalty", request.frequency_penalty, low=-MAX_PENALTY, high=MAX_PENALTY)
    for field in ("repetition_context_size", "presence_context_size", "frequency_context_size"):
        _check_int(field, getattr(request, field), low=1, high=MAX_CONTEXT_SIZE)


def _check_end(request: GenerateRequest) -> None:
    ids: Any = request.stop_token_ids
    if isinstance(ids, str | bytes) or not isinstance(ids, Sequence):
        raise invalid("stop_token_ids", f"must be a sequence of token ids, not {shown(ids)}")
    if len(ids) > MAX_STOP_TOKEN_IDS:
        raise invalid("stop_token_ids", f"takes at most {MAX_STOP_TOKEN_IDS} token ids, not {len(ids)}")
    for token in ids:
        _check_int("stop_token_ids", token, low=0)
    if not isinstance(request.ignore_eos, bool):
        raise invalid("ignore_eos", f"must be true or false, not {shown(request.ignore_eos)}")
    _check_int("min_tokens", request.min_tokens, low=0, high=2**31 - 1)


def _check_choice(field: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise invalid(field, f"must be one of {', '.join(choices)}, not {shown(value)}")


def _check_range(field: str, value: Any, *, low: float, high: float) -> None:
    if not low <= _number(field, value) <= high:
        raise invalid(field, f"must be between {low:g} and {high:g}, not {shown(value)}")


def _number(field: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise invalid(field, f"must be a finite number, not {shown(value)}")
    return float(value)


def _check_int(field: str, value: Any, *, low: int, high: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        if (
            isinstance(value, float) and value.is_integer() and abs(value) >= 2**63
        ):  # as readers of JSON have it
            raise invalid(field, f"must be an integer of 64 bits, not {int(value)}")
        raise invalid(field, f"must be an integer, not {shown(value)}")
    if value < low:
        raise invalid(field, f"must be at least {low}, not {value}")
    if high is not None and value > high:
        raise invalid(field, f"must be at most {high}, not {value}")


def _check_stop(stop: tuple[str, ...]) -> None:
    if isinstance(stop, str) or not all(isinstance(text, str) and text for text in stop):
        raise invalid("stop", "must be a sequence of non-empty strings")
    if len(stop) > MAX_STOPS or sum(map(len, stop)) > MAX_STOP_CHARS:
        raise invalid("stop", f"takes at most {MAX_STOPS} strings and {MAX_STOP_CHARS} characters in all")
