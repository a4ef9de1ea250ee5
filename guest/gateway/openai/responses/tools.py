"""The tools of a response as functions of the host's, and the calls of these as the tools'.

Beside functions there are custom tools, which take a text, and namespaces of both. A model sees one list of functions: a custom
tool is one of a single text, and what is in a namespace has its name before its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlxbridge.compat.openai.nested import check_text, read_function
from mlxbridge.compat.refusal import check_members, is_one_of, refused
from mlxbridge.types import ToolCall

INPUT = "input"
"""What the function of a custom tool takes."""
_TEXT_ALONE = {
    "type": "object",
    "properties": {INPUT: {"type": "string"}},
    "required": [INPUT],
    "additionalProperties": False,
}
_NAMESPACE = ("type", "name", "description", "tools")
_FUNCTION = ("name", "description", "parameters", "strict")
_CUSTOM = ("name", "description")
_ONLY: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "allowed_callers": ((["direct"],), 'is ["direct"] here: the host runs no code that could call'),
    "defer_loading": ((False,), "is false here: the model is told of all tools"),
}
"""Of both kinds of tools: what may be said to no effect."""
_KINDS = ("function", "custom", "namespace")


@dataclass(frozen=True)
class Tool:
    """What a function of the host's stands for.

    Attributes:
        name: the tool's.
        namespace: that it is in, if it is in one.
        is_custom: it takes a text.
    """

    name: str
    namespace: str | None = None
    is_custom: bool = False


class Tools:
    """Those of a request.

    Args:
        given: as the request has them.

    Attributes:
        functions: the host's.
        origins: where in the request each stands.

    Raises:
        UsageError: one is none that the host's models can call; ``details["field"]`` names it.
    """

    def __init__(self, given: Any = ()) -> None:
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise refused("tools", "must be a list of tools")
        self.functions: list[dict[str, Any]] = []
        self.origins: list[str] = []
        self._known: dict[str, Tool] = {}
        for place, tool in enumerate(given):
            self._add(tool, f"tools[{place}]")

    @property
    def names(self) -> dict[str, str]:
        """The request's names of fields, by the host's."""
        return {f"tools[{place}].function": origin for place, origin in enumerate(self.origins)}

    def of(self, call: ToolCall) -> tuple[Tool, str]:
        """The tool that a call is of, and the arguments or the text that it is called with."""
        tool = self._known.get(call.name) or Tool(call.name)
        text = call.arguments.get(INPUT) if tool.is_custom and isinstance(call.arguments, Mapping) else None
        return tool, text if isinstance(text, str) else call.text

    def _add(self, given: Any, field: str, namespace: Mapping[str, Any] | None = None) -> None:
        if not isinstance(given, Mapping):
            raise refused(field, f"must be a tool, not {type(given).__name__}")
        kinds = _KINDS if namespace is None else _KINDS[:2]
        kind = given.get("type")
        if kind not in kinds:
            raise refused(
                f"{field}.type",
                f"must be {' or '.join(kinds)}: the server runs no tools itself, such as {kind!r}",
            )
        told = {name: value for name, value in given.items() if value is not None and name != "type"}
        if kind == "namespace":
            check_members(given, _NAMESPACE, f"{field}.")
            self._add_namespace(told, field)
            return
        for name, (allowed, why) in _ONLY.items():
            if name in told and not is_one_of(told.pop(name), allowed):
                raise refused(f"{field}.{name}", why)
        function = self._custom(told, field) if kind == "custom" else read_function(told, field)
        self._add_function(function, field, namespace, is_custom=kind == "custom")

    def _add_namespace(self, told: Mapping[str, Any], field: str) -> None:
        for name in ("name", "description"):
            check_text(f"{field}.{name}", told.get(name))
        inner = told.get("tools")
        if not told.get("name") or not isinstance(inner, list):
            raise refused(field, "must have a name, and tools, a list of them")
        for place, tool in enumerate(inner):
            self._add(tool, f"{field}.tools[{place}]", told)

    def _custom(self, told: dict[str, Any], field: str) -> dict[str, Any]:
        form = told.pop("format", None)
        if form not in (None, {"type": "text"}):
            raise refused(
                f"{field}.format",
                'must be {"type": "text"}: nothing holds a call that a model may or may not make to a grammar',
            )
        check_members(told, _CUSTOM, f"{field}.")
        return {**read_function(told, field), "parameters": _TEXT_ALONE}

    def _add_function(
        self, function: dict[str, Any], field: str, namespace: Mapping[str, Any] | None, *, is_custom: bool
    ) -> None:
        name = function.get("name")
        if not isinstance(name, str) or not name:
            raise refused(f"{field}.name", "must be a text, and not empty")
        within = None if namespace is None else namespace["name"]
        own = name_for_host(name, within)
        if own in self._known:
            raise refused(f"{field}.name", f"is {own!r} once more")
        self._known[own] = Tool(name, within, is_custom)
        if namespace is not None and namespace.get("description"):
            texts = (function.get("description"), namespace["description"])
            function["description"] = "\n\n".join(filter(None, texts))
        self.functions.append({"type": "function", "function": {**function, "name": own}})
        self.origins.append(field)


def name_for_host(name: str, namespace: str | None) -> str:
    """What the host's models call a tool."""
    return name if namespace is None else f"{namespace}__{name}"


def custom_arguments(text: str) -> str:
    """A text for a custom tool as arguments of its function, in JSON."""
    return json.dumps({INPUT: text}, ensure_ascii=False)


def read_tool_choice(given: Any) -> Any:
    """``tool_choice`` as the host has it.

    Raises:
        UsageError: it is neither a word nor the name of a tool.
    """
    if isinstance(given, str):
        return given
    if not isinstance(given, dict) or given.get("type") not in _KINDS[:2] or "name" not in given:
        raise refused("tool_choice", 'must be "auto", "none", "required" or {"type": "function", "name": …}')
    check_members(given, ("type", "name"), "tool_choice.")
    return {"name": given["name"]}
