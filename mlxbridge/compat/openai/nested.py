"""Objects within openai's parameters, of Python or of JSON, as the host's; each member is taken, or refused by its path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxbridge.compat.refusal import check_members, refused

_STREAM_OPTIONS = ("include_usage", "include_obfuscation")
_TOOL = ("type", "function")
_FUNCTION = ("name", "description", "parameters", "strict")
_JSON_SCHEMA = ("name", "description", "schema", "strict")
_CACHE_HINT = "prompt_cache_breakpoint"
"""Of parts of a content: the host keeps prefixes of prompts by itself."""


def wants_usage(options: Any) -> bool:
    """Whether ``stream_options`` ask for usage.

    Raises:
        UsageError: they ask for something else; ``details["field"]`` names it.
    """
    if not isinstance(options, Mapping):
        raise refused("stream_options", f"must be a map, not {options!r}")
    check_members(options, _STREAM_OPTIONS, "stream_options.")
    given = {name: check_switch(f"stream_options.{name}", options.get(name)) for name in _STREAM_OPTIONS}
    if given["include_obfuscation"]:
        raise refused("stream_options.include_obfuscation", "the host hides no lengths")
    return given["include_usage"]


def check_switch(field: str, value: Any) -> bool:
    """A boolean; None is False.

    Raises:
        UsageError: it is something else.
    """
    if value is not None and not isinstance(value, bool):
        raise refused(field, f"must be true or false, not {value!r}")
    return value is True


def read_message(given: Any, place: int) -> Any:
    """A message as the host takes it, which checks its members; answers of a call may be given back as they came.

    Raises:
        UsageError: it is none.
    """
    message = _plain(given)
    if not isinstance(message, dict):
        raise refused(f"messages[{place}]", f"must be a message, not {type(given).__name__}")
    message = {name: value for name, value in message.items() if value is not None or name == "content"}
    for name in ("annotations", "tool_calls"):  # empty lists say nothing
        if message.get(name) == []:
            del message[name]
    message.pop("parsed", None)  # which the content has, too
    if "reasoning_content" in message:
        message["reasoning"] = message.pop("reasoning_content")
    if message.get("role") == "developer":
        message["role"] = "system"
    parts, calls = message.get("content"), message.get("tool_calls")
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict):
            part.pop(_CACHE_HINT, None)
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict) and isinstance(function := call.get("function"), dict):
            function.pop("parsed_arguments", None)
    return message


def read_tool(given: Any, field: str) -> Any:
    """A tool as the host takes it; a Python function stays one.

    Raises:
        UsageError: it is none that the host's models can call.
    """
    tool = _plain(given)
    if not isinstance(tool, dict):
        return given
    if tool.get("type", "function") != "function":
        raise refused(f"{field}.type", 'must be "function": the host knows no other tools')
    check_members(tool, _TOOL, f"{field}.")
    function = tool.get("function")
    return {**tool, "function": read_function(function, f"{field}.function")} if function else tool


def read_function(given: Any, field: str) -> Any:
    """What a tool's function is called and takes.

    Raises:
        UsageError: it has something else.
    """
    if not isinstance(given, Mapping):
        return given  # for the host to refuse
    check_members(given, _FUNCTION, f"{field}.")
    check_switch(f"{field}.strict", given.get("strict"))
    check_text(f"{field}.description", given.get("description"))
    return {name: value for name, value in given.items() if value is not None}


def read_tool_choice(given: Any) -> Any:
    """``tool_choice`` as the host has it.

    Raises:
        UsageError: it is neither a word nor the name of a function.
    """
    if isinstance(given, str):
        return given
    function = given.get("function") if isinstance(given, Mapping) else None
    if not isinstance(function, Mapping) or "name" not in function or given.get("type") != "function":
        raise refused(
            "tool_choice",
            'must be "auto", "none", "required" or {"type": "function", "function": {"name": …}}',
        )
    check_members(given, _TOOL, "tool_choice.")
    check_members(function, ("name",), "tool_choice.function.")
    return {"name": function["name"]}


def read_response_format(given: Any) -> Any:
    """``response_format`` as the host has it; None for text.

    Raises:
        UsageError: a schema is not as openai has it.
    """
    if not isinstance(given, Mapping):
        return given
    if given.get("type") == "text":
        check_members(given, ("type",), "response_format.")
        return None
    if given.get("type") != "json_schema":
        return given  # the host's own, which checks them
    named = given.get("json_schema")
    if not isinstance(named, Mapping) or "schema" not in named:
        raise refused("response_format", 'must have {"json_schema": {"name": …, "schema": {…}}}')
    check_members(given, ("type", "json_schema"), "response_format.")
    check_members(named, _JSON_SCHEMA, "response_format.json_schema.")
    return read_json_schema(named, "response_format.json_schema")


def read_json_schema(named: Mapping[str, Any], field: str) -> dict[str, Any]:
    """A schema beside its name, as the host's ``response_format``: names are labels, and all schemas are kept to strictly.

    Raises:
        UsageError: what stands beside it is wrong.
    """
    for name in ("name", "description"):
        check_text(f"{field}.{name}", named.get(name))
    check_switch(f"{field}.strict", named.get("strict"))
    return {"type": "json_schema", "schema": named["schema"]}


def check_text(field: str, value: Any) -> None:
    """Refuse what is neither None nor a text.

    Raises:
        UsageError: it is.
    """
    if value is not None and not isinstance(value, str):
        raise refused(field, f"must be a text, not {value!r}")


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        value = dump(exclude_none=True)
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
