"""Python functions as tools of a model: how they are described to it, and how its calls become calls of them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mlxbridge.guest.requests import shown, wrong
from mlxbridge.guest.schemas import Schema, hints_of, parameters_schema
from mlxbridge.guest.values import plain_value, read_members
from mlxbridge.types import ToolCall

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SECTION = re.compile(r"^(Args|Arguments|Parameters|Params):\s*$")
_ARGUMENT = re.compile(r"^(\*{0,2}\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")
_FIELD = re.compile(r"^\s*:param\s+(?:[^:]*\s)?(\w+):\s*(.*)$")
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Tool:
    """A Python function that a model may call.

    The model is told its name, what its docstring begins with, and its parameters: their types, those without a default as
    required, and what the docstring's ``Args:`` (or ``:param name:``) says of each, or a text in ``Annotated``. Types are
    those that ``response_format`` takes. A function given as one of ``tools`` becomes such a tool by itself.

    Args:
        function: with type hints; for ``AsyncClient`` also an async one.
        name: what the model calls it; the function's own if left out.
        description: when to call it; what the docstring begins with, if left out.

    Attributes:
        name: what the model calls it.
        function: the function.
        schema: what is sent, in OpenAI's form.

    Raises:
        UsageError: a parameter has no type hint, or one that JSON has nothing like; the message names it.

    Example:
        >>> def add(a: int, b: int = 1) -> int:
        ...     '''Add two numbers.
        ...
        ...     Args:
        ...         a: the first.
        ...     '''
        ...     return a + b
        >>> Tool(add).schema["function"]["parameters"]["required"]
        ['a']
        >>> Tool(add).schema["function"]["parameters"]["properties"]["a"]
        {'type': 'integer', 'description': 'the first.'}
    """

    def __init__(
        self, function: Callable[..., Any], *, name: str | None = None, description: str | None = None
    ) -> None:
        self.function = function
        own: str = getattr(function, "__name__", "")
        self.name = own if name is None else name
        field = f"tools.{self.name or shown(function)}"
        if not _NAME.fullmatch(self.name):
            raise wrong(field, "has no name of letters, digits, _ and -; give one: Tool(function, name=…)")
        text = inspect.cleandoc(getattr(function, "__doc__", None) or "")
        said, arguments = read_docstring(text)
        self._kinds = _kinds_of(function, field)
        schema: Schema = {
            "name": self.name,
            "parameters": parameters_schema(self._kinds, self._required, arguments, field),
        }
        if said := description or said:
            schema["description"] = said
        self.schema: Schema = {"type": "function", "function": schema}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Tool({self.name}: {self.schema['function']['parameters']})"

    def run(self, call: ToolCall) -> Any:
        """Call the function as the model wants it called.

        Returns:
            What the function does; of an async one, something to be awaited.

        Raises:
            ValueError: the arguments are not those of the function.
        """
        arguments = read_members(self._kinds, call.arguments or {}, self.name)
        missing = [name for name in self._required if name not in arguments]
        if missing:
            raise ValueError(f"{self.name}: lacks {', '.join(missing)}")
        return self.function(**arguments)

    @property
    def _required(self) -> list[str]:
        parameters = inspect.signature(self.function).parameters
        return [name for name in self._kinds if parameters[name].default is inspect.Parameter.empty]


def tool_of(tool: Any, field: str) -> Tool:
    """The tool that was given, or that a function is.

    Raises:
        UsageError: it is neither; or see ``Tool``.
    """
    if isinstance(tool, Tool):
        return tool
    if isinstance(tool, Mapping) or not callable(tool):
        raise wrong(field, f"must be a Python function, to be called, not {shown(tool)}")
    return Tool(tool)


def encode_answer(result: Any) -> str:
    """What a function returned, as a text for the model: itself, or JSON.

    Raises:
        TypeError, ValueError: JSON has nothing like it: keys that are no texts, or a list that is in itself.
    """
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=plain_value)
    # A file's name, for one, can have what is no UTF-8, and could not be sent.
    return text.encode(errors="backslashreplace").decode()


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """What a docstring begins with, as far as its first section; and what it says of each argument."""
    said: list[str] = []
    arguments: dict[str, str] = {}
    name, depth = "", None
    is_before = True
    for line in text.splitlines():
        if found := _FIELD.match(line):
            is_before = False
            arguments[found[1]] = found[2]
        elif _SECTION.match(line):
            is_before, depth = False, 0
        elif is_before and re.match(r"^(\w+:\s*$|:\w+)", line):  # Returns:, Raises:, :return:
            is_before = False
        elif is_before:
            said.append(line)
        elif depth is not None and line.strip():
            indent = len(line) - len(line.lstrip())
            if not indent:
                depth = None
            elif (found := _ARGUMENT.match(line.strip())) and (not depth or indent <= depth):
                name, depth = found[1], indent
                arguments[name] = found[2]
            elif name:
                arguments[name] = f"{arguments[name]} {line.strip()}".strip()
    return "\n".join(said).strip(), arguments


def _kinds_of(function: Callable[..., Any], field: str) -> dict[str, Any]:
    """The types of its parameters."""
    wrapped = function.func if isinstance(function, partial) else function
    hints = hints_of(wrapped if inspect.isroutine(wrapped) else type(wrapped).__call__, field)
    kinds = {}
    try:
        parameters = inspect.signature(function).parameters
    except ValueError as error:  # some of those that are written in C
        raise wrong(
            field, f"its parameters cannot be read ({error}); write a function that calls it"
        ) from error
    for name, parameter in parameters.items():
        if parameter.kind not in _NAMED:
            raise wrong(f"{field}.{name}", f"a model cannot give {parameter}; name the parameters")
        if name not in hints:
            raise wrong(f"{field}.{name}", "has no type hint")
        kinds[name] = hints[name]
    return kinds
