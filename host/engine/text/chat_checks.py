"""Refusing what a request asks for its chat: tools, reasoning, variables of the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlxbridge.host.engine.interface import GenerateRequest
from mlxbridge.host.engine.refusal import invalid, shown

MAX_TOOLS = 128  # as OpenAI's
MAX_TOOL_NAME_CHARS = 256


def check_chat(request: GenerateRequest) -> None:
    """Check all that needs messages, but these, and needs no model.

    Raises:
        InvalidArgument: a field has a wrong type or value; ``details["field"]`` names it.
    """
    _check_tools(request.tools)
    _check_tool_choice(request)
    for field in ("parallel_tool_calls", "reasoning"):
        value = getattr(request, field)
        if not isinstance(value, bool) and (field != "reasoning" or value is not None):
            raise invalid(field, f"must be true or false, not {shown(value)}")
    if request.max_reasoning_tokens is not None:
        limit: Any = request.max_reasoning_tokens
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise invalid("max_reasoning_tokens", f"must be a whole number from 1, not {shown(limit)}")
    variables: Any = request.chat_template_kwargs
    if not isinstance(variables, Mapping) or not all(isinstance(name, str) for name in variables):
        raise invalid("chat_template_kwargs", f"must map names to values, not be {shown(variables)}")
    if request.response_format is not None:
        _check_format(request)
    if request.messages is None:
        given = {
            "tools": bool(request.tools),
            "reasoning": request.reasoning is not None,
            "max_reasoning_tokens": request.max_reasoning_tokens is not None,
            "chat_template_kwargs": bool(variables),
        }
        for field in filter(given.get, given):
            raise invalid(field, "needs messages: a prompt goes through no chat template")


def _check_format(request: GenerateRequest) -> None:
    if request.tools and request.tool_choice != "none":
        raise invalid("tools", "goes against response_format, which the answer keeps to")
    if request.max_reasoning_tokens is not None and request.reasoning is not True:
        raise invalid("max_reasoning_tokens", "needs reasoning: true beside response_format")


def _check_tools(tools: Any) -> None:
    if isinstance(tools, str | bytes) or not isinstance(tools, Sequence):
        raise invalid("tools", f"must be a list of tools, not {shown(tools)}")
    if len(tools) > MAX_TOOLS:
        raise invalid("tools", f"takes at most {MAX_TOOLS}, not {len(tools)}")
    names: set[str] = set()
    for index, tool in enumerate(tools):
        field = f"tools[{index}]"
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or tool.get("type", "function") != "function":
            raise invalid(field, f'must be {{"type": "function", "function": …}}, not {shown(tool)}')
        name = function.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= MAX_TOOL_NAME_CHARS:
            raise invalid(
                f"{field}.function.name", f"must have 1 to {MAX_TOOL_NAME_CHARS} characters: {shown(name)}"
            )
        if name in names:
            raise invalid(f"{field}.function.name", f"is {shown(name)} once more")
        names.add(name)
        _check_schema(f"{field}.function", function)


def _check_schema(field: str, function: Mapping[str, Any]) -> None:
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise invalid(f"{field}.parameters", "must be a JSON schema, a map")
    strict = function.get("strict")
    if not isinstance(strict, bool | None):
        raise invalid(f"{field}.strict", f"must be true or false, not {shown(strict)}")


def _check_tool_choice(request: GenerateRequest) -> None:
    choice: Any = request.tool_choice
    names = [tool["function"]["name"] for tool in request.tools]
    if isinstance(choice, Mapping):
        if choice.keys() != {"name"}:
            raise invalid("tool_choice", f'must be {{"name": …}}, not {shown(choice)}')
        if choice["name"] not in names:
            raise invalid("tool_choice", f"names {shown(choice['name'])}, which is none of the tools")
    elif choice not in ("auto", "none", "required"):
        raise invalid("tool_choice", f'must be auto, none, required or {{"name": …}}, not {shown(choice)}')
    if not names and choice == "required":
        raise invalid("tool_choice", "is required, but there are no tools")
    if not names and not request.parallel_tool_calls:
        raise invalid("parallel_tool_calls", "needs tools")
