"""Answers as Anthropic's messages."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from mlxbridge.guest.gateway.anthropic.thinking import Shown
from mlxbridge.types import Generation, ToolCall

SIGNATURE = "mlxbridge"
"""Of thinking blocks: Anthropic's own proves that a model thought so, for which there is no need here."""

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


@dataclass(frozen=True)
class Reply:
    """How an answer is to be told.

    Attributes:
        model: the name that was asked for.
        shown: what is told of thinking.
        is_shortened: the context had not room for all of ``max_tokens``.
    """

    model: str
    shown: Shown
    is_shortened: bool = False

    def begin(self) -> dict[str, Any]:
        """The message before there is anything in it; how long the prompt is, its end tells."""
        return self._message([], None, None, _usage(0, 0, 0))

    def whole(self, answer: Generation) -> dict[str, Any]:
        """The message."""
        content = []
        if answer.reasoning.strip() and self.shown != "nothing":
            content.append(thinking_block(answer.reasoning if self.shown == "whole" else "", SIGNATURE))
        text = answer.text + "".join(call.text for call in answer.tool_calls if call.malformed)
        if answer.reasoning:  # white space beside the markers that were around it
            text = text.lstrip()
        if text.strip():
            content.append(text_block(text))
        content += [tool_use_block(call, call.arguments) for call in answer.tool_calls if not call.malformed]
        reason, sequence = self.stop(answer)
        return self._message(content, reason, sequence, usage_of(answer))

    def stop(self, answer: Generation) -> tuple[str, str | None]:
        """Why the answer ended, and the stop sequence that it was, if it was one."""
        if answer.usage.stop_string is not None:
            return "stop_sequence", answer.usage.stop_string
        if answer.finish_reason == "length" and self.is_shortened:
            return "model_context_window_exceeded", None
        return _STOP_REASONS.get(answer.finish_reason, "end_turn"), None

    def _message(
        self, content: list[dict[str, Any]], reason: str | None, sequence: str | None, usage: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "id": f"msg_{secrets.token_hex(12)}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": usage,
        }


def text_block(text: str) -> dict[str, Any]:
    """A block of the answer."""
    return {"type": "text", "text": text}


def thinking_block(text: str, signature: str) -> dict[str, Any]:
    """A block of what was thought before it."""
    return {"type": "thinking", "thinking": text, "signature": signature}


def tool_use_block(call: ToolCall, arguments: Any) -> dict[str, Any]:
    """A block of a call."""
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def usage_of(answer: Generation) -> dict[str, Any]:
    """What the answer took; ``input_tokens`` are those that were not found in the host's cache."""
    told = answer.usage
    usage = _usage(told.prompt_tokens - told.cached_tokens, told.cached_tokens, told.completion_tokens)
    if told.reasoning_tokens is not None:
        usage["output_tokens_details"] = {"thinking_tokens": told.reasoning_tokens}
    return usage


def _usage(num_read: int, num_cached: int, num_generated: int) -> dict[str, Any]:
    return {
        "input_tokens": num_read,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": num_cached,
        "output_tokens": num_generated,
    }
