"""The messages of a chat, checked, and as chat templates expect them (SPEC.md §10)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlxbridge.host.engine.refusal import invalid, shown, unsupported

_KEYS = ("role", "content")
_MORE_KEYS = {"assistant": ("tool_calls", "reasoning"), "tool": ("tool_call_id", "name")}
_CALL_KEYS = ("id", "type", "function")
_FUNCTION_KEYS = ("name", "arguments")
_MOST_KEY_CHARS = 100


def check_messages(messages: Any) -> list[dict[str, Any]]:
    """Messages for a chat template, as many as were given.

    Parts of a content are joined, and arguments of tool calls that are JSON are read, since that is what templates are
    written for; what is None is left out, but for the content beside tool calls.

    Raises:
        InvalidArgument: empty, or of a wrong shape; ``details["field"]`` says where.
        Unsupported: a message, or a part of one, is of a kind that the engine cannot honour.
    """
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence) or not messages:
        raise invalid("messages", "must be a non-empty list of maps with role and content")
    return [_check_message(f"messages[{index}]", message) for index, message in enumerate(messages)]


def count_chars(message: Mapping[str, Any]) -> int:
    """Characters of a checked message, about as many as a template writes."""
    calls = message.get("tool_calls")
    texts = sum(len(message.get(key) or "") for key in ("content", "reasoning"))
    return texts + (len(json.dumps(calls)) if calls else 0)


def _check_message(field: str, message: Any) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise invalid(field, f"must be a map with role and content, not {type(message).__name__}")
    role = _check_text(f"{field}.role", message.get("role"))
    keys = (*_KEYS, *_MORE_KEYS.get(role, ()))
    _check_keys(field, message, keys, f"a message of this role has {' and '.join(keys)}")
    checked = {key: message[key] for key in keys if message.get(key) is not None}
    if calls := checked.pop("tool_calls", None):
        checked["tool_calls"] = _check_calls(f"{field}.tool_calls", calls)
    if "content" in checked or "tool_calls" not in checked:
        checked["content"] = _check_content(f"{field}.content", checked.get("content"))
    elif "content" in message:
        checked["content"] = None
    for key in ("reasoning", *_MORE_KEYS["tool"]):
        if key in checked:
            _check_text(f"{field}.{key}", checked[key])
    return checked


def _check_content(field: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise invalid(field, f"must be a string or a list of parts, not {shown(content)}")
    return "".join(_check_part(f"{field}[{index}]", part) for index, part in enumerate(content))


def _check_part(field: str, part: Any) -> str:
    if not isinstance(part, Mapping):
        raise invalid(field, f"must be a map with type and text, not {shown(part)}")
    kind = _check_text(f"{field}.type", part.get("type"))
    if kind != "text":
        raise unsupported(f"{field}.type", f"{shown(kind)} is not supported; the parts of a content are text")
    _check_keys(field, part, ("type", "text"), "a part has type and text")
    return _check_text(f"{field}.text", part.get("text"))


def _check_calls(field: str, calls: Any) -> list[dict[str, Any]]:
    if not isinstance(calls, list | tuple):
        raise invalid(field, f"must be a list of tool calls, not {shown(calls)}")
    return [_check_call(f"{field}[{index}]", call) for index, call in enumerate(calls)]


def _check_call(field: str, call: Any) -> dict[str, Any]:
    if not isinstance(call, Mapping):
        raise invalid(field, f"must be a map with a function, not {shown(call)}")
    _check_keys(field, call, _CALL_KEYS, "a tool call has id, type and function")
    checked = {key: call[key] for key in _CALL_KEYS if call.get(key) is not None}
    for key in ("id", "type"):
        if key in checked:
            _check_text(f"{field}.{key}", checked[key])
    if checked.get("type", "function") != "function":
        raise unsupported(f"{field}.type", f"{shown(checked['type'])} is not supported; tools are functions")
    return {**checked, "function": _check_function(f"{field}.function", checked.get("function"))}


def _check_function(field: str, function: Any) -> dict[str, Any]:
    if not isinstance(function, Mapping):
        raise invalid(field, f"must be a map with name and arguments, not {shown(function)}")
    _check_keys(field, function, _FUNCTION_KEYS, "a function has name and arguments")
    name = _check_text(f"{field}.name", function.get("name"))
    return {"name": name, "arguments": _read_arguments(f"{field}.arguments", function.get("arguments"))}


def _read_arguments(field: str, given: Any) -> dict[str, Any]:
    """Arguments by name; bytes and the like that are no JSON would fail in the template."""
    try:
        arguments = json.loads(given if isinstance(given, str) else json.dumps(given))
    except (TypeError, ValueError, RecursionError) as exc:
        raise invalid(field, f"must be a map, or JSON of one: {exc}") from exc
    if not isinstance(arguments, dict):
        raise invalid(field, f"must be a map, or JSON of one, not {shown(given)}")
    return arguments


def _check_text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise invalid(field, f"must be a string, not {shown(value)}")
    return value


def _check_keys(field: str, value: Mapping[Any, Any], known: Sequence[str], advice: str) -> None:
    for key in value:
        if key not in known:
            raise unsupported(f"{field}.{str(key)[:_MOST_KEY_CHARS]}", f"is not supported; {advice}")
