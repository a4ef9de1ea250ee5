"""Tools whose arguments are objects of a pydantic model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class ModelFunction(dict[str, Any]):
    """A function's schema, and the model that it is of."""

    def __init__(self, model: Any, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.model = model


def pydantic_function_tool(
    model: Any, *, name: str | None = None, description: str | None = None
) -> dict[str, Any]:
    """A tool whose arguments ``parse`` and ``stream`` give as objects of a pydantic model.

    Args:
        model: a subclass of ``pydantic.BaseModel``.
        name: of the function; the class's if left out.
        description: of it; the class's docstring if left out.
    """
    function = ModelFunction(
        model,
        {
            "name": name or model.__name__,
            "strict": True,
            "parameters": _strict(model.model_json_schema()),
        },
    )
    told = model.__doc__ if description is None else description
    if told is not None:
        function["description"] = told
    return {"type": "function", "function": function}


def arguments_as_asked(tools: Any, name: str, arguments: Any) -> Any:
    """A call's arguments as an object of the model that its tool was made of, or as they are.

    Raises:
        pydantic.ValidationError: they are none.
    """
    for tool in tools if isinstance(tools, Iterable) else ():
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if isinstance(function, ModelFunction) and function["name"] == name:
            return function.model.model_validate(arguments)
    return arguments


def _strict(schema: Any) -> Any:
    """A schema whose objects have all of their members, and no others, as OpenAI's strict ones have."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        name: {key: _strict(one) for key, one in value.items()}
        if name in ("properties", "$defs")
        else value
        if name in ("default", "const", "enum", "examples")
        else _strict(value)
        for name, value in schema.items()
        if (name, value) != ("default", None)
    }
    if schema.get("type") == "object":
        made.setdefault("additionalProperties", False)
    if "properties" in schema:
        made["required"] = list(schema["properties"])
    return made
