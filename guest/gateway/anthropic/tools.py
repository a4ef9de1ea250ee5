"""Anthropic's tools, and how one is chosen, in the host's form."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from mlxbridge.compat.refusal import refused
from mlxbridge.guest.gateway.anthropic.checks import (
    read_choice,
    read_list,
    read_object,
    read_switch,
    read_text,
)

_HARMLESS = ("cache_control", "eager_input_streaming")  # a call's arguments come whole in any case
_MEMBERS = ("name", "description", "input_schema", "strict", "type", "defer_loading", "allowed_callers")
_CHOICES = {"auto": "auto", "any": "required", "none": "none", "tool": ""}


def read_tools(value: Any, loaded: Container[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The tools that the model is told of, and where in the request each stands.

    Args:
        value: of the request.
        loaded: names of those that may be told of though they are deferred.

    Raises:
        UsageError: one is wrong, or of a kind that the host knows nothing of; it names the place.
    """
    tools: list[dict[str, Any]] = []
    origins: list[str] = []
    for index, given in enumerate(read_list(value, "tools")):
        path = f"tools.{index}"
        kind = read_object(given, path).get("type", "custom")
        if kind != "custom":
            raise refused(
                f"{path}.type",
                f"{kind!r} is not supported: the host runs no tools, and its models know those alone that have an input_schema",
            )
        tool = read_object(given, path, (*_MEMBERS, *_HARMLESS))
        if tool.get("allowed_callers", ["direct"]) != ["direct"]:
            raise refused(
                f"{path}.allowed_callers", 'must be ["direct"]: the host runs no code that could call'
            )
        name = read_text(tool.get("name"), f"{path}.name")
        if read_switch(tool.get("defer_loading", False), f"{path}.defer_loading") and name not in loaded:
            continue
        tools.append({"type": "function", "function": _function(tool, name, path)})
        origins.append(path)
    return tools, origins


def _function(tool: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    schema = tool.get("input_schema")
    read_object(schema, f"{path}.input_schema")
    function = {"name": name, "parameters": schema}
    if "description" in tool:
        function["description"] = read_text(tool["description"], f"{path}.description")
    if read_switch(tool.get("strict", False), f"{path}.strict"):
        function["strict"] = True
    return function


def read_tool_choice(value: Any) -> dict[str, Any]:
    """``tool_choice`` as the host's options.

    Raises:
        UsageError: it is none; it names the place.
    """
    path = "tool_choice"
    choice = read_object(value, path, ("type", "name", "disable_parallel_tool_use"))
    kind = read_choice(choice.get("type"), f"{path}.type", _CHOICES)
    options: dict[str, Any] = {"tool_choice": _CHOICES[kind]}
    if kind == "tool":
        options["tool_choice"] = {"name": read_text(choice.get("name"), f"{path}.name")}
    elif "name" in choice:
        raise refused(f"{path}.name", 'is for {"type": "tool"}')
    if read_switch(choice.get("disable_parallel_tool_use", False), f"{path}.disable_parallel_tool_use"):
        options["parallel_tool_calls"] = False
    return options
