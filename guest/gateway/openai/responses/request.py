"""The body of ``POST /v1/responses``, as options of the host, and what a response repeats of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from mlxbridge.compat.openai.parameters import logit_bias_of, reasoning_options
from mlxbridge.compat.refusal import refused
from mlxbridge.guest.gateway.openai import fields
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
_OWN = frozenset(
    {
        *_NOT_HERE,
        *_ONLY,
        *_REPEATED,
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "metadata",
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
_LOGPROBS = "message.output_text.logprobs"
_INCLUDABLE = (_LOGPROBS, "reasoning.encrypted_content")
_TOOL_FIELDS = frozenset({"description", "name", "parameters", "strict", "type"})
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
    """

    options: GenerateOptions
    is_stream: bool
    repeated: Mapping[str, Any]
    names: Mapping[str, str]


def read_request(body: Mapping[str, Any]) -> ResponseRequest:
    """What a body asks for.

    Raises:
        UsageError: a field is none, or the host has nothing like it; ``details["field"]`` names it.
    """
    fields.check(body, _OWN | _HOST)
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
    if "tools" in given:
        options["tools"] = _tools(given["tools"])
        names |= {f"tools[{i}].function": f"tools[{i}]" for i in range(len(options["tools"]))}
    if not options.get("tools") and isinstance(options.get("parallel_tool_calls"), bool):
        del options["parallel_tool_calls"]  # clients say it whether they have tools or not
    if "tool_choice" in given:
        options["tool_choice"] = _tool_choice(given["tool_choice"])
    _take_text(given, options)
    _take_reasoning(given, options, names)
    return ResponseRequest(cast(GenerateOptions, options), _is_stream(given), _repeated(given), names)


def _refuse_what_is_not_here(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name in _NOT_HERE and value not in ({}, []):
            raise refused(name, _NOT_HERE[name])
        if name in _ONLY and value not in _ONLY[name][0]:
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


def _tools(given: Any) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        raise refused("tools", "must be a list of tools")
    return [_tool(f"tools[{place}]", tool) for place, tool in enumerate(given)]


def _tool(field: str, tool: Any) -> dict[str, Any]:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        raise refused(field, 'must be {"type": "function", "name": …}: the server runs no tools itself')
    told = {name: value for name, value in tool.items() if value is not None}
    fields.check(told, _TOOL_FIELDS, f"{field}.")
    return {"type": "function", "function": {name: told[name] for name in told if name != "type"}}


def _tool_choice(given: Any) -> Any:
    if isinstance(given, str):
        return given
    if not isinstance(given, dict) or given.get("type") != "function" or "name" not in given:
        raise refused("tool_choice", 'must be "auto", "none", "required" or {"type": "function", "name": …}')
    return {"name": given["name"]}


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
        form = {"type": "json_schema", "schema": form["schema"]}
    options["response_format"] = form


def _take_reasoning(given: Mapping[str, Any], options: dict[str, Any], names: dict[str, str]) -> None:
    wanted = given.get("reasoning")
    if isinstance(wanted, bool):  # the host's own option
        options["reasoning"] = wanted
        return
    told = _object(
        given, "reasoning", frozenset({"context", "effort", "generate_summary", "mode", "summary"})
    )
    for name, allowed in (
        ("summary", "auto"),
        ("generate_summary", "auto"),
        ("context", "auto"),
        ("mode", "standard"),
    ):
        if told.get(name) not in (None, allowed):
            raise refused(
                f"reasoning.{name}", f'is "{allowed}" here: reasoning is given whole, as the model writes it'
            )
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
    fields.check(value, known, f"{name}.")
    return value


def _is_stream(given: Mapping[str, Any]) -> bool:
    is_stream = given.get("stream", False)
    if not isinstance(is_stream, bool):
        raise refused("stream", f"must be true or false, not {is_stream!r}")
    options = _object(given, "stream_options", frozenset({"include_obfuscation"}))
    if options.get("include_obfuscation"):
        raise refused("stream_options.include_obfuscation", "the gateway hides no lengths")
    return is_stream


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
        "tools": [{"strict": False, **tool} for tool in given.get("tools", [])],
        "top_logprobs": given.get("top_logprobs", 0),
        "top_p": given.get("top_p"),
        **{name: given.get(name) for name in _REPEATED},
    }
