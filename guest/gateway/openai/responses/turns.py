"""The ``input`` of a response: items as the turns of a chat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlxbridge.compat.openai.nested import check_text
from mlxbridge.compat.refusal import check_members, refused
from mlxbridge.guest.gateway.openai.responses.tools import custom_arguments, name_for_host

_OF_ALL = ("type", "id", "status")
_OF_CALLS = (*_OF_ALL, "call_id", "name", "namespace", "caller")
_OF_RESULTS = (*_OF_ALL, "call_id", "output", "name", "namespace", "caller")
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "message": (*_OF_ALL, "content", "phase", "role"),
    "function_call": (*_OF_CALLS, "arguments", "parsed_arguments"),
    "function_call_output": _OF_RESULTS,
    "custom_tool_call": (*_OF_CALLS, "input"),
    "custom_tool_call_output": _OF_RESULTS,
    "reasoning": (*_OF_ALL, "content", "encrypted_content", "summary"),
}
"""What an item may have; of these ``id``, ``phase``, ``status``, ``caller`` and ``parsed_arguments`` are as they were given out,
and change nothing; nor do the names that results repeat."""
_PARTS: Mapping[str, tuple[str, ...]] = {
    "input_text": ("text", "prompt_cache_breakpoint"),
    "output_text": ("text", "annotations", "logprobs"),
    "text": ("text",),
    "refusal": ("refusal",),
    "summary_text": ("text",),
    "reasoning_text": ("text",),
}
"""What a part may have: its text, and then what changes nothing."""
_SAID = ("input_text", "output_text", "text", "refusal")
_THOUGHT = {"content": "reasoning_text", "summary": "summary_text"}


class Turns:
    """A chat, as it grows item by item.

    What a model says and calls in one go is one turn. Reasoning is given back to it from behind the last message of the
    user's alone, as OpenAI has it too: what it thought for earlier answers it does not read again.

    Args:
        instructions: what goes before all; None for nothing.
        given: a text, or items.

    Attributes:
        messages: the chat.
        names: what the request calls each message.

    Raises:
        UsageError: an item is none, or the host has nothing like it; ``details["field"]`` names it.
    """

    def __init__(self, instructions: Any, given: Any) -> None:
        self.messages: list[dict[str, Any]] = []
        self.names: dict[str, str] = {"messages": "input"}
        self._reasoning: tuple[str, str] | None = None
        if instructions is not None:
            if not isinstance(instructions, str):
                raise refused("instructions", "must be a text")
            self._add("instructions", {"role": "system", "content": instructions})
        if isinstance(given, str):
            self._add("input", {"role": "user", "content": given})
        elif isinstance(given, list) and given:
            self._add_items(given)
        else:
            raise refused("input", "must be a text, or a list of items")

    def _add_items(self, items: Sequence[Any]) -> None:
        add: Mapping[str, Callable[[str, Mapping[str, Any]], None]] = {
            "message": self._add_message,
            "function_call": self._add_call,
            "function_call_output": self._add_result,
            "custom_tool_call": self._add_call,
            "custom_tool_call_output": self._add_result,
            "reasoning": self._add_reasoning,
        }
        last_question = max((place for place, item in enumerate(items) if _is_users(item)), default=-1)
        for place, item in enumerate(items):
            field = f"input[{place}]"
            if not isinstance(item, dict):
                raise refused(field, f"must be an item, not {type(item).__name__}")
            kind = item.get("type", "message")
            if not isinstance(kind, str) or kind not in add:
                raise refused(
                    f"{field}.type", f"must be {', '.join(add)}; the host has nothing like {kind!r}"
                )
            check_members(_given(item), _FIELDS[kind], f"{field}.")
            if kind != "reasoning" or place > last_question:
                add[kind](field, item)
        if self._reasoning is not None:
            raise refused(self._reasoning[0], "must come before what the model said or called with it")

    def _add(self, field: str, message: dict[str, Any]) -> None:
        if self._reasoning is not None:
            where, text = self._reasoning
            if message["role"] != "assistant":
                raise refused(where, "must come before what the model said or called with it")
            message["reasoning"], self._reasoning = text, None
        self.names[f"messages[{len(self.messages)}]"] = field
        self.messages.append(message)

    def _add_message(self, field: str, item: Mapping[str, Any]) -> None:
        role = item.get("role")
        if not isinstance(role, str):
            raise refused(f"{field}.role", "must be user, assistant, system or developer")
        role = "system" if role == "developer" else role
        text = _text(f"{field}.content", item.get("content"))
        first = self.messages[0] if len(self.messages) == 1 else None
        if role == "system" and first is not None and first["role"] == "system":
            first["content"] += (
                f"\n\n{text}"  # many a template takes one such turn, and only at the beginning
            )
        else:
            self._add(field, {"role": role, "content": text})

    def _add_call(self, field: str, item: Mapping[str, Any]) -> None:
        is_custom = item.get("type") == "custom_tool_call"
        written = "input" if is_custom else "arguments"
        for name in ("call_id", "name", written):
            if not isinstance(item.get(name), str):
                raise refused(f"{field}.{name}", "must be a text")
        check_text(f"{field}.namespace", item.get("namespace"))
        arguments = custom_arguments(item[written]) if is_custom else item[written]
        function = {"name": name_for_host(item["name"], item.get("namespace")), "arguments": arguments}
        call = {"id": item["call_id"], "type": "function", "function": function}
        last = self.messages[-1] if self.messages else None
        if last is None or last["role"] != "assistant" or self._reasoning is not None:
            self._add(field, {"role": "assistant", "content": None, "tool_calls": [call]})
        else:
            last.setdefault("tool_calls", []).append(call)

    def _add_result(self, field: str, item: Mapping[str, Any]) -> None:
        if not isinstance(item.get("call_id"), str):
            raise refused(f"{field}.call_id", "must be a text")
        text = _text(f"{field}.output", item.get("output"))
        self._add(field, {"role": "tool", "tool_call_id": item["call_id"], "content": text})

    def _add_reasoning(self, field: str, item: Mapping[str, Any]) -> None:
        texts = []
        for name in ("content", "summary"):
            parts = item.get(name) or []
            if not isinstance(parts, list):
                raise refused(f"{field}.{name}", f"must be a list of {_THOUGHT[name]}")
            texts.append(_text(f"{field}.{name}", parts, (_THOUGHT[name],)))
        text = next(filter(None, texts), "")
        if not text and item.get("encrypted_content"):
            raise refused(
                f"{field}.encrypted_content", "cannot be read here: give content, as responses have it"
            )
        if text:
            self._reasoning = field, text


def _is_users(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type", "message") == "message" and item.get("role") == "user"


def _text(field: str, content: Any, kinds: Sequence[str] = _SAID) -> str:
    """What a message or a tool's result says: a text, or parts that are texts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise refused(field, "must be a text, or a list of parts")
    return "".join(_part(f"{field}[{place}]", part, kinds) for place, part in enumerate(content))


def _part(field: str, part: Any, kinds: Sequence[str]) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise refused(field, f"must be one of {', '.join(kinds)}: the host has nothing like {kind!r}")
    check_members(_given(part), ("type", *_PARTS[kind]), f"{field}.")
    text = part.get(_PARTS[kind][0])
    if not isinstance(text, str):
        raise refused(field, "must have a text")
    return text


def _given(told: Mapping[str, Any]) -> dict[str, Any]:
    """What is not null."""
    return {name: value for name, value in told.items() if value is not None}
