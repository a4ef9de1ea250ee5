"""Parts of parameters."""

from __future__ import annotations

from typing import Any, Literal, Required, TypedDict

FunctionParameters = dict[str, Any]
ReasoningEffort = str
"""What the model's template knows, or "none"."""


class FunctionDefinition(TypedDict, total=False):
    """A function that a model may call; ``parameters`` is a JSON schema."""

    name: Required[str]
    description: str
    parameters: FunctionParameters
    strict: bool | None


class ResponseFormatText(TypedDict, total=False):
    """Any text."""

    type: Required[Literal["text"]]


class ResponseFormatJSONObject(TypedDict, total=False):
    """A JSON object."""

    type: Required[Literal["json_object"]]


class JSONSchema(TypedDict, total=False):
    """A schema with a name."""

    name: Required[str]
    description: str
    schema: dict[str, object]
    strict: bool | None


class ResponseFormatJSONSchema(TypedDict, total=False):
    """JSON that keeps to a schema."""

    json_schema: Required[JSONSchema]
    type: Required[Literal["json_schema"]]
