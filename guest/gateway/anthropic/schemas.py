"""What Anthropic's paths take and tell, for the gateway's OpenAPI page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlxbridge.guest.gateway.anthropic.requests import COUNTED
from mlxbridge.guest.gateway.operation import IN_PARTS, JSON, SSE, Operation, in_path, in_query
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
    told,
    typed,
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


def _block(kind: str, members: Mapping[str, Schema], required: Sequence[str]) -> Schema:
    return typed(kind, {"cache_control": ANY, **members}, required)


def _content(*blocks: Schema) -> Schema:
    return any_of({**TEXT, "minLength": 1}, list_of(any_of(*blocks), 1))


_TEXT = _block("text", {"text": TEXT, "citations": choice([])}, ["text"])
_TEXTS = any_of(TEXT, list_of(_TEXT))
_REFERENCE = _block("tool_reference", {"tool_name": TEXT}, ["tool_name"])
_RESULT = _block(
    "tool_result",
    {
        "tool_use_id": TEXT,
        "content": any_of(TEXT, list_of(any_of(_TEXT, _REFERENCE))),
        "is_error": FLAG,
    },
    ["tool_use_id"],
)
_CALLER = typed("direct")
_ASSISTANTS = (
    _TEXT,
    _block(
        "tool_use", {"id": TEXT, "name": TEXT, "input": OBJECT, "caller": _CALLER}, ["id", "name", "input"]
    ),
    _block("thinking", {"thinking": TEXT, "signature": ANY}, ["thinking"]),
    _block("redacted_thinking", {"data": ANY}, []),
    typed("fallback", {"from": ANY, "to": ANY, "trigger": ANY}),
)
_SYSTEM_MESSAGE = {
    "role": choice("system"),
    "content": _content(_TEXT),
    "clear_at": choice("never", "next_user_message"),
    "output_config": body({"effort": TEXT}),
}
_MESSAGE = any_of(
    body({"role": choice("user"), "content": _content(_TEXT, _RESULT)}, ["role", "content"]),
    body({"role": choice("assistant"), "content": _content(*_ASSISTANTS)}, ["role", "content"]),
    body(_SYSTEM_MESSAGE, ["role", "content"]),
    body(_SYSTEM_MESSAGE, ["role", "output_config"]),
)
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
_FORMAT = typed("json_schema", {"schema": OBJECT, "name": TEXT}, ["schema"])
_EDIT = body({"type": {"type": "string", "pattern": "^clear_thinking_"}, "keep": ANY}, ["type"])
_DISPLAY = choice("summarized", "omitted")
_SHOWN: Mapping[str, Schema] = {
    "display": _DISPLAY,
    "block_binding": body({"prefix_mismatch_behavior": choice("error", "drop_block")}),
}
_THINKING = any_of(
    typed("enabled", {"budget_tokens": whole(1), **_SHOWN}, ["budget_tokens"]),
    typed("adaptive", {"budget_tokens": whole(0), **_SHOWN}),
    typed("disabled"),
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
    "fallbacks": choice([], "default"),
    "mcp_servers": choice([]),
    "messages": list_of(_MESSAGE, 1),
    "metadata": ANY,
    "output_config": body({"effort": TEXT, "format": _FORMAT}),
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
    "workspace_id": ANY,
}
"""Fields of ``/v1/messages``."""
COUNTING: Mapping[str, Schema] = {name: MESSAGES[name] for name in sorted(COUNTED)}
"""Of ``/v1/messages/count_tokens``."""

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
        answer={JSON: _TOLD, SSE: IN_PARTS},
        statuses=(_OVERLOADED,),
    ),
    ("POST", "/v1/messages/count_tokens"): Operation(
        summary="How many tokens a chat is",
        api="anthropic",
        body=body(COUNTING, ["messages"]),
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
