"""What Anthropic's paths take and tell, for the gateway's OpenAPI page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxbridge.guest.gateway.operation import JSON, SSE, Operation, in_path, in_query
from mlxbridge.guest.gateway.option_schemas import GENERATE
from mlxbridge.guest.gateway.schema import (
    ANY,
    FLAG,
    NULL,
    OBJECT,
    TEXT,
    Schema,
    any_of,
    body,
    choice,
    list_of,
    number,
    told,
    whole,
)

ERROR: Schema = told(
    {
        "type": choice("error"),
        "error": told({"type": TEXT, "message": TEXT}),
        "request_id": TEXT,
    }
)
_OVERLOADED = 529

_TYPED = {"type": "object", "required": ["type"], "properties": {"type": TEXT}}
_TEXTS = any_of(
    TEXT,
    list_of(
        body(
            {"type": choice("text"), "text": TEXT, "cache_control": ANY, "citations": choice([])},
            ["type", "text"],
        )
    ),
)
_MESSAGE = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": choice("user", "assistant", "system"),
        "content": any_of(TEXT, list_of(_TYPED)),
    },
}
_TOOL = body(
    {
        "name": TEXT,
        "description": TEXT,
        "input_schema": OBJECT,
        "strict": FLAG,
        "type": choice("custom"),
        "defer_loading": FLAG,
        "allowed_callers": choice(["direct"]),
        "cache_control": ANY,
        "eager_input_streaming": ANY,
    },
    ["name", "input_schema"],
)
_FORMAT = body({"type": choice("json_schema"), "schema": OBJECT, "name": ANY}, ["type", "schema"])
_EDIT = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"type": "string", "pattern": "^clear_thinking_"}},
}
_DISPLAY = choice("summarized", "omitted")
_THINKING = any_of(
    body(
        {"type": choice("enabled"), "budget_tokens": number(), "display": _DISPLAY}, ["type", "budget_tokens"]
    ),
    body({"type": choice("adaptive"), "budget_tokens": number(), "display": _DISPLAY}, ["type"]),
    body({"type": choice("disabled")}, ["type"]),
)
_OF_HOST = (
    *("model", "max_tokens", "temperature", "top_p", "top_k", "chat_template_kwargs", "keep_alive", "min_p"),
    *("priority", "repetition_penalty", "seed", "speculation"),
)

MESSAGES: Mapping[str, Schema] = {
    **{name: GENERATE[name] for name in _OF_HOST},
    "betas": ANY,
    "cache_control": ANY,
    "container": choice({}),
    "context_management": body({"edits": list_of(_EDIT)}),
    "diagnostics": ANY,
    "fallbacks": choice([]),
    "mcp_servers": choice([]),
    "messages": list_of(_MESSAGE, 1),
    "metadata": ANY,
    "output_config": body({"effort": ANY, "format": _FORMAT}),
    "output_format": _FORMAT,
    "service_tier": ANY,
    "speed": choice("standard"),
    "stop_sequences": list_of({**TEXT, "minLength": 1}),
    "stream": FLAG,
    "system": _TEXTS,
    "thinking": _THINKING,
    "thread": choice({}),
    "tool_choice": body(
        {
            "type": choice("auto", "any", "none", "tool"),
            "name": TEXT,
            "disable_parallel_tool_use": FLAG,
        },
        ["type"],
    ),
    "tools": list_of(_TOOL),
    "user_profile_id": ANY,
}
"""Fields of ``/v1/messages``."""

_INT = whole(0)
_TOLD = told(
    {
        "id": TEXT,
        "type": choice("message"),
        "role": choice("assistant"),
        "model": TEXT,
        "content": list_of(told({"type": choice("text", "thinking", "tool_use")})),
        "stop_reason": choice(
            "end_turn", "max_tokens", "tool_use", "stop_sequence", "model_context_window_exceeded"
        ),
        "stop_sequence": any_of(TEXT, NULL),
        "usage": told({"input_tokens": _INT, "output_tokens": _INT}),
    }
)
_MODEL = told({"type": choice("model"), "id": TEXT, "display_name": TEXT, "created_at": TEXT})
_ID = any_of(TEXT, NULL)
_PAGE = told({"data": list_of(_MODEL), "has_more": FLAG, "first_id": _ID, "last_id": _ID})
_VERSION: Mapping[str, Any] = {
    "name": "anthropic-version",
    "in": "header",
    "description": "has it answered, and refused, in Anthropic's shape",
    "schema": TEXT,
}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/v1/messages"): Operation(
        summary="The answer to a chat",
        api="anthropic",
        body=body(MESSAGES, ["max_tokens", "messages"]),
        answer={JSON: _TOLD, SSE: TEXT},
        statuses=(_OVERLOADED,),
    ),
    ("POST", "/v1/messages/count_tokens"): Operation(
        summary="How many tokens a chat is",
        api="anthropic",
        body=body(MESSAGES, ["messages"]),
        answer={JSON: told({"input_tokens": _INT})},
        statuses=(_OVERLOADED,),
    ),
    ("GET", "/v1/models"): Operation(
        summary="Models that the caller may use, in pages",
        api="anthropic",
        answer={JSON: _PAGE},
        parameters=[
            _VERSION,
            in_query("limit", TEXT, "models to a page, 1 to 1000, for those who name a version; 20"),
            in_query("after_id", TEXT, "the last one of the page before"),
            in_query("before_id", TEXT, "the first one of the page behind"),
        ],
        statuses=(_OVERLOADED,),
    ),
    ("GET", "/v1/models/{model}"): Operation(
        summary="One of them",
        api="anthropic",
        answer={JSON: _MODEL},
        parameters=[in_path("model", "a name or alias"), _VERSION],
        statuses=(404, _OVERLOADED),
    ),
}
"""By method and path; those that OpenAI's API has too are this one's with ``anthropic-version``."""
