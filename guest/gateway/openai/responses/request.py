"""The body of ``POST /v1/responses``, as options of the host, and what a response repeats of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from mlxbridge.compat.openai.nested import check_switch, read_json_schema
from mlxbridge.compat.openai.parameters import logit_bias_of, reasoning_options
from mlxbridge.compat.refusal import check_members, is_one_of, refused
from mlxbridge.guest.gateway.openai import fields
from mlxbridge.guest.gateway.openai.responses.tools import Tools, read_tool_choice
from mlxbridge.guest.gateway.openai.responses.turns import Turns
from mlxbridge.types import GenerateOptions

_KEEPS_NOTHING = "the gateway keeps no responses: give all items in input"
_NOT_HERE: Mapping[str, str] = {
    "access_programs": "there are none here",
    "background_options": "there is no work in the background here",
    "context_management": "the gateway leaves input as it is",
    "conversation": _KEEPS_NOTHING,
    "image": "the host's models write text",
    "max_tool_calls": "counts tools that the server runs, which there are none of",
    "moderation": "the host moderates nothing",
    "previous_response_id": _KEEPS_NOTHING,
    "prompt": "there are no prompts kept here: give instructions and input",
    "prompt_cache_options": "the host keeps prefixes of prompts by itself",
}
_ONLY: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "background": ((False,), "there is no work in the background here"),
    "service_tier": (("auto", "default"), 'give priority "low" or "high", an option of the host'),
    "store": ((False,), "the gateway keeps no responses"),
    "truncation": (("disabled",), "the gateway leaves input as it is"),
}
_REPEATED = ("prompt_cache_key", "prompt_cache_retention", "safety_identifier", "user")
"""They change nothing, but a response has them."""
HARMLESS = frozenset({"client_metadata", "metadata", *_REPEATED})
"""They change nothing of an answer, and are taken for nothing."""
_OWN = frozenset(
    {
        *_NOT_HERE,
        *_ONLY,
        *HARMLESS,
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "model",
        "parallel_tool_calls",
        "reasoning",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
    }
)
_HOST = fields.HOST - _OWN - {"logprobs", "max_tokens", "response_format"}
COUNTED = frozenset(
    {
        *("conversation", "input", "instructions", "model", "parallel_tool_calls", "previous_response_id"),
        *("reasoning", "text", "tool_choice", "tools", "truncation"),
    }
) | (fields.TOKENIZE_HOST & _HOST)
"""What has a part in how many tokens an input is, and what OpenAI takes there besides."""
_LOGPROBS = "message.output_text.logprobs"
_INCLUDABLE = (_LOGPROBS, "reasoning.encrypted_content")
_OPENAIS_FORMATS = ("json_schema", "json_object")
_JSON_SCHEMA = frozenset({"type", "name", "description", "schema", "strict"})
_SUMMARIES = ("auto", "concise", "detailed")
_REASONING: Mapping[str, tuple[str, ...]] = {
    "summary": _SUMMARIES,
    "generate_summary": _SUMMARIES,
    "context": ("auto", "current_turn"),
    "mode": ("standard",),
}
"""What may be said to no effect: reasoning is given whole, which is more than any summary, and read again in its turn alone."""
_SAME = ("model", "temperature", "top_p", "parallel_tool_calls")
_NAMES = {"max_tokens": "max_output_tokens", "logprobs": "top_logprobs", "response_format": "text.format"}


@dataclass(frozen=True)
class ResponseRequest:
    """What is wanted.

    Attributes:
        options: of the host.
        is_stream: whether it is wanted as it comes.
        repeated: fields that the response has as the request had them.
        names: what the request calls the host's fields.
        tools: what may be called.
    """

    options: GenerateOptions
    is_stream: bool
    repeated: Mapping[str, Any]
    names: Mapping[str, str]
    tools: Tools


def read_request(body: Mapping[str, Any], *, is_count: bool = False) -> ResponseRequest:
    """What a body asks for.

    Args:
        body: as it was decoded.
        is_count: its tokens are to be counted, and there is no answer.

    Raises:
        UsageError: a field is none, or the host has nothing like it; ``details["field"]`` names it.
    """
    check_members(body, COUNTED if is_count else _OWN | _HOST)
    given = {name: value for name, value in body.items() if value is not None}
    _refuse_what_is_not_here(given)
    turns = Turns(given.get("instructions"), given.get("input"))
    names = {**_NAMES, **turns.names}
    options: dict[str, Any] = {name: given[name] for name in given.keys() & (_HOST | {*_SAME})}
    options["messages"] = turns.messages
    if "logit_bias" in options:
        options["logit_bias"] = logit_bias_of(options["logit_bias"])
    if "max_output_tokens" in given:
        options["max_tokens"] = given["max_output_tokens"]
    if "top_logprobs" in given or _LOGPROBS in _include(given):
        options["logprobs"] = given.get("top_logprobs", 0)
    tools = Tools(given.get("tools", ()))
    names |= tools.names
    if "tools" in given:
        options["tools"] = tools.functions
    check_switch("parallel_tool_calls", given.get("parallel_tool_calls"))
    if not options.get("tools"):
        options.pop("parallel_tool_calls", None)  # clients say it whether they have tools or not
    if "tool_choice" in given:
        options["tool_choice"] = read_tool_choice(given["tool_choice"])
    _take_text(given, options)
    if is_count and options.get("response_format", {}).get("type") not in (None, *_OPENAIS_FORMATS):
        raise refused("text.format.type", f"must be one of {', '.join(_OPENAIS_FORMATS)} to count tokens")
    _take_reasoning(given, options, names)
    return ResponseRequest(cast(GenerateOptions, options), _is_stream(given), _repeated(given), names, tools)


def _refuse_what_is_not_here(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in _NOT_HERE and value not in ({}, []):
            raise refused(name, _NOT_HERE[name])
        if name in _ONLY and not is_one_of(value, _ONLY[name][0]):
            allowed, why = _ONLY[name]
            raise refused(name, f"is {' or '.join(map(json.dumps, allowed))} here; {why}")


def _include(given: Mapping[str, Any]) -> list[str]:
    """What is asked for besides; encrypted reasoning is not needed, since all reasoning is given in the clear."""
    wanted = given.get("include", [])
    if not isinstance(wanted, list):
        raise refused("include", "must be a list")
    for place, one in enumerate(wanted):
        if one not in _INCLUDABLE:
            raise refused(f"include[{place}]", f"must be one of {', '.join(_INCLUDABLE)}, not {one!r}")
    return wanted


def _take_text(given: Mapping[str, Any], options: dict[str, Any]) -> None:
    text = _object(given, "text", frozenset({"format", "verbosity"}))
    if text.get("verbosity") not in (None, "medium"):
        raise refused("text.verbosity", "the host's models have no such switch; say it in the prompt")
    form = text.get("format")
    if form is None or form == {"type": "text"}:
        return
    if not isinstance(form, dict):
        raise refused("text.format", "must be an object with a type")
    if form.get("type") == "json_schema":
        if not isinstance(form.get("schema"), dict):
            raise refused("text.format.schema", "must be a JSON schema")
        check_members(form, _JSON_SCHEMA, "text.format.")
        form = read_json_schema(form, "text.format")
    options["response_format"] = form


def _take_reasoning(given: Mapping[str, Any], options: dict[str, Any], names: dict[str, str]) -> None:
    wanted = given.get("reasoning")
    if isinstance(wanted, bool):  # the host's own option
        options["reasoning"] = wanted
        return
    told = _object(given, "reasoning", frozenset({"effort", *_REASONING}))
    for name, allowed in _REASONING.items():
        if name in told and told[name] not in (None, *allowed):
            raise refused(f"reasoning.{name}", f"must be one of {', '.join(allowed)}, not {told[name]!r}")
    if told.get("effort") is not None:
        kwargs = options.get("chat_template_kwargs")
        own = reasoning_options(told["effort"])
        if isinstance(kwargs, dict) and "chat_template_kwargs" in own:
            own["chat_template_kwargs"] |= kwargs
        options |= own
        names |= {
            "reasoning": "reasoning.effort",
            "chat_template_kwargs.reasoning_effort": "reasoning.effort",
        }


def _object(given: Mapping[str, Any], name: str, known: frozenset[str]) -> Mapping[str, Any]:
    value = given.get(name, {})
    if not isinstance(value, dict):
        raise refused(name, "must be an object")
    check_members(value, known, f"{name}.")
    return value


def _is_stream(given: Mapping[str, Any]) -> bool:
    options = _object(given, "stream_options", frozenset({"include_obfuscation"}))
    if check_switch("stream_options.include_obfuscation", options.get("include_obfuscation")):
        raise refused("stream_options.include_obfuscation", "the gateway hides no lengths")
    return check_switch("stream", given.get("stream"))


def _repeated(given: Mapping[str, Any]) -> dict[str, Any]:
    reasoning, text = given.get("reasoning"), given.get("text") or {}
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    return {
        "instructions": given.get("instructions"),
        "max_output_tokens": given.get("max_output_tokens"),
        "metadata": given.get("metadata", {}),
        "parallel_tool_calls": given.get("parallel_tool_calls", True),
        "reasoning": {"effort": effort, "summary": None},
        "temperature": given.get("temperature"),
        "text": {"format": text.get("format") or {"type": "text"}},
        "tool_choice": given.get("tool_choice", "auto"),
        "tools": [_repeated_tool(tool) for tool in given.get("tools", [])],
        "top_logprobs": given.get("top_logprobs", 0),
        "top_p": given.get("top_p"),
        **{name: given.get(name) for name in _REPEATED},
    }


def _repeated_tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"strict": False, **tool} if tool["type"] == "function" else tool
