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
    whole,
)

_PART = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": choice("input_text", "output_text", "text", "refusal")},
}
_ITEM = {
    "type": "object",
    "properties": {
        "type": choice("message", "function_call", "function_call_output", "reasoning"),
        "role": any_of(TEXT, {"type": "null"}),
        "content": any_of(TEXT, list_of(any_of(_PART, OBJECT)), {"type": "null"}),
    },
}
_TOOL = body(
    {"type": choice("function"), "name": TEXT, "description": TEXT, "parameters": OBJECT, "strict": FLAG},
    ["type", "name"],
)
_JSON_SCHEMA = {
    "type": "object",
    "required": ["type", "schema"],
    "properties": {"type": choice("json_schema"), "schema": OBJECT},
}
_AUTO = choice("auto")
_REASONING = body(
    {
        "effort": TEXT,
        "summary": _AUTO,
        "generate_summary": _AUTO,
        "context": _AUTO,
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
    "stream_options": body({"include_obfuscation": ANY}),
    "text": body(
        {
            "format": any_of(body({"type": choice("text")}, ["type"]), _JSON_SCHEMA, *RESPONSE_FORMATS),
            "verbosity": choice("medium"),
        }
    ),
    "tool_choice": any_of(
        choice("auto", "none", "required"),
        {
            "type": "object",
            "required": ["type", "name"],
            "properties": {"type": choice("function"), "name": TEXT},
        },
    ),
    "tools": list_of(_TOOL),
    "top_logprobs": whole(0, 20),
    "truncation": choice("disabled"),
    "user": ANY,
}
RESPONSE_REQUEST = body(FIELDS, ["input"])

_INT = whole(0)
RESPONSE = told(
    {
        "id": TEXT,
        "object": choice("response"),
        "created_at": _INT,
        "status": choice("completed", "incomplete"),
        "model": TEXT,
        "output": list_of(told({"id": TEXT, "type": choice("message", "reasoning", "function_call")}), 1),
        "usage": told({"input_tokens": _INT, "output_tokens": _INT, "total_tokens": _INT}),
    }
)
INPUT_TOKENS = told({"object": choice("response.input_tokens"), "input_tokens": _INT})
