"""A response and its items, as OpenAI has them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlxbridge.compat.openai.chat_completion import token_of
from mlxbridge.guest.gateway.openai.responses.request import ResponseRequest
from mlxbridge.guest.gateway.openai.responses.tools import Tools
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.types import Generation, TokenLogprobs, ToolCall, Usage

_CONSTANT = {
    "object": "response",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "max_tool_calls": None,
    "previous_response_id": None,
    "service_tier": "default",
    "store": False,
    "truncation": "disabled",
    "usage": None,
}


def new_id(kind: str) -> str:
    """A name for a response or an item: "resp", "msg", "rs", "fc" or "ctc", and what makes it the only one."""
    return f"{kind}_{secrets.token_hex(16)}"


def begin(request: ResponseRequest) -> dict[str, Any]:
    """A response of which nothing is known but what was asked."""
    return {
        "id": new_id("resp"),
        "created_at": int(time.time()),
        "status": "in_progress",
        **_CONSTANT,
        "model": request.options.get("model") or "",
        "output": [],
        **request.repeated,
    }


def complete(response: Mapping[str, Any], answer: Generation, items: Sequence[Any]) -> dict[str, Any]:
    """The response once its answer is whole."""
    is_cut = answer.finish_reason == "length"
    return {
        **response,
        "status": "incomplete" if is_cut else "completed",
        "completed_at": None if is_cut else int(time.time()),
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "model": answer.model,
        "output": items,
        "usage": _usage(answer.usage),
    }


def fail(response: Mapping[str, Any], problem: Problem, items: Sequence[Any]) -> dict[str, Any]:
    """The response once something has gone wrong."""
    code = "rate_limit_exceeded" if problem.status == 429 else "server_error"
    code = "invalid_prompt" if problem.status < 429 else code
    error = {"code": code, "message": problem.message}
    return {**response, "status": "failed", "error": error, "output": items}


def items_of(answer: Generation, tools: Tools) -> list[dict[str, Any]]:
    """What a whole answer is made of: reasoning, text, and calls of tools."""
    calls = [call for call in answer.tool_calls if not call.malformed]
    text = answer.text + "".join(call.text for call in answer.tool_calls if call.malformed)
    items = [reasoning(new_id("rs"), answer.reasoning)] if answer.reasoning else []
    if text or not calls:
        is_cut = answer.finish_reason == "length"
        said = (answer.logprobs or [])[answer.usage.reasoning_tokens or 0 :]
        items.append(message(new_id("msg"), text, logprobs_of(said), is_cut=is_cut))
    return items + [call_item(call, tools) for call in calls]


def message(id_: str, text: str, logprobs: Sequence[Any], *, is_cut: bool = False) -> dict[str, Any]:
    """An item of text."""
    status = "incomplete" if is_cut else "completed"
    content = [output_text(text, logprobs)]
    return {"id": id_, "type": "message", "status": status, "role": "assistant", "content": content}


def output_text(text: str, logprobs: Sequence[Any]) -> dict[str, Any]:
    """The part that it has."""
    return {"type": "output_text", "annotations": [], "logprobs": logprobs, "text": text}


def reasoning(id_: str, text: str, *, is_cut: bool = False) -> dict[str, Any]:
    """An item of what the model thought."""
    status = "incomplete" if is_cut else "completed"
    content = [reasoning_text(text)]
    return {"id": id_, "type": "reasoning", "status": status, "summary": [], "content": content}


def reasoning_text(text: str) -> dict[str, Any]:
    """The part that it has."""
    return {"type": "reasoning_text", "text": text}


def call_item(call: ToolCall, tools: Tools) -> dict[str, Any]:
    """An item of a call."""
    tool, text = tools.of(call)
    item = {"call_id": call.id, "name": tool.name}
    if tool.namespace is not None:
        item["namespace"] = tool.namespace
    if tool.is_custom:
        return {"id": new_id("ctc"), "type": "custom_tool_call", **item, "input": text}
    return {"id": new_id("fc"), "type": "function_call", "status": "completed", **item, "arguments": text}


def logprobs_of(tokens: Sequence[TokenLogprobs] | None) -> list[dict[str, Any]]:
    """Those of tokens."""
    return [
        {**token_of(one.chosen), "top_logprobs": [token_of(other) for other in one.top]}
        for one in tokens or ()
    ]


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
