"""What responses take and tell, for the gateway's OpenAPI page."""

from __future__ import annotations

from collections.abc import Mapping

from mlxbridge.guest.gateway.option_schemas import GENERATE, RESPONSE_FORMATS
from mlxbridge.guest.gateway.schema import (
    ANY,
    FLAG,
    OBJECT,
    TEXT,
    Schema,
    any_of,
    body,
    choice,
    list_of,
    told,
    typed,
    whole,
)

_ID: Mapping[str, Schema] = {"id": ANY, "status": ANY}
_CALL: Mapping[str, Schema] = {**_ID, "call_id": TEXT, "name": TEXT, "namespace": TEXT, "caller": ANY}
_RESULT: Mapping[str, Schema] = {**_ID, "call_id": TEXT, "name": ANY, "namespace": ANY, "caller": ANY}


def _texts(*parts: Schema) -> Schema:
    return any_of(TEXT, list_of(any_of(*parts)))


_SAID = _texts(
    typed("input_text", {"text": TEXT, "prompt_cache_breakpoint": ANY}, ["text"]),
    typed("output_text", {"text": TEXT, "annotations": ANY, "logprobs": ANY}, ["text"]),
    typed("text", {"text": TEXT}, ["text"]),
    typed("refusal", {"refusal": TEXT}, ["refusal"]),
)
_ITEM = any_of(
    body(
        {
            **_ID,
            "type": choice("message"),
            "role": choice("user", "assistant", "system", "developer"),
            "content": _SAID,
            "phase": ANY,
        },
        ["role", "content"],
    ),
    typed(
        "function_call",
        {**_CALL, "arguments": TEXT, "parsed_arguments": ANY},
        ["call_id", "name", "arguments"],
    ),
    typed("custom_tool_call", {**_CALL, "input": TEXT}, ["call_id", "name", "input"]),
    *(
        typed(f"{kind}_output", {**_RESULT, "output": _SAID}, ["call_id", "output"])
        for kind in ("function_call", "custom_tool_call")
    ),
    typed(
        "reasoning",
        {
            **_ID,
            "content": list_of(typed("reasoning_text", {"text": TEXT}, ["text"])),
            "summary": list_of(typed("summary_text", {"text": TEXT}, ["text"])),
            "encrypted_content": ANY,
        },
        ["summary"],
    ),
)
_ANY_TOOL: Mapping[str, Schema] = {
    "name": {**TEXT, "minLength": 1},
    "description": TEXT,
    "allowed_callers": choice(["direct"]),
    "defer_loading": choice(False),
}
_CALLABLE = (
    typed("function", {**_ANY_TOOL, "parameters": OBJECT, "strict": FLAG}, ["name"]),
    typed("custom", {**_ANY_TOOL, "format": typed("text")}, ["name"]),
)
_NAMESPACE = typed(
    "namespace",
    {"name": {**TEXT, "minLength": 1}, "description": TEXT, "tools": list_of(any_of(*_CALLABLE))},
    ["name", "tools"],
)
_TOOL = any_of(*_CALLABLE, _NAMESPACE)
_JSON_SCHEMA = typed(
    "json_schema", {"name": TEXT, "description": TEXT, "schema": OBJECT, "strict": FLAG}, ["schema"]
)
_FORMATS = (typed("text"), _JSON_SCHEMA)


def _text(*formats: Schema) -> Schema:
    return body({"format": any_of(*_FORMATS, *formats), "verbosity": choice("medium")})


_SUMMARY = choice("auto", "concise", "detailed")
_REASONING = body(
    {
        "effort": TEXT,
        "summary": _SUMMARY,
        "generate_summary": _SUMMARY,
        "context": choice("auto", "current_turn"),
        "mode": choice("standard"),
    }
)
_HOST = {
    name: schema
    for name, schema in GENERATE.items()
    if name not in ("logprobs", "max_tokens", "response_format")
}

FIELDS: Mapping[str, Schema] = {
    **_HOST,
    "background": choice(False),
    "client_metadata": ANY,
    "include": list_of(choice("message.output_text.logprobs", "reasoning.encrypted_content")),
    "input": any_of(TEXT, list_of(_ITEM, 1)),
    "instructions": TEXT,
    "max_output_tokens": whole(1),
    "metadata": ANY,
    "prompt_cache_key": ANY,
    "prompt_cache_retention": ANY,
    "reasoning": any_of(FLAG, _REASONING),
    "safety_identifier": ANY,
    "service_tier": choice("auto", "default"),
    "store": choice(False),
    "stream": FLAG,
    "stream_options": body({"include_obfuscation": choice(False)}),
    "text": _text(*RESPONSE_FORMATS),
    "tool_choice": any_of(
        choice("auto", "none", "required"),
        body({"type": choice("function", "custom"), "name": TEXT}, ["type", "name"]),
    ),
    "tools": list_of(_TOOL),
    "top_logprobs": whole(0, 20),
    "truncation": choice("disabled"),
    "user": ANY,
}
RESPONSE_REQUEST = body(FIELDS, ["input"])
COUNTED: Mapping[str, Schema] = {
    **{name: FIELDS[name] for name in ("input", "instructions", "model", "parallel_tool_calls", "reasoning")},
    **{name: FIELDS[name] for name in ("tool_choice", "tools", "truncation")},
    **{name: FIELDS[name] for name in ("chat_template_kwargs", "keep_alive", "timeout")},
    "text": _text(RESPONSE_FORMATS[0]),
}
COUNT_REQUEST = body(COUNTED, ["input"])

_INT = whole(0)
RESPONSE = told(
    {
        "id": TEXT,
        "object": choice("response"),
        "created_at": _INT,
        "status": choice("completed", "incomplete"),
        "model": TEXT,
        "output": list_of(
            told({"id": TEXT, "type": choice("message", "reasoning", "function_call", "custom_tool_call")}),
            1,
        ),
        "usage": told({"input_tokens": _INT, "output_tokens": _INT, "total_tokens": _INT}),
    }
)
INPUT_TOKENS = told({"object": choice("response.input_tokens"), "input_tokens": _INT})
