"""Tools, and which are to be called."""

from __future__ import annotations

from typing import Literal, TypedDict

from mlxbridge.compat.openai.types.shared_params import FunctionDefinition


class ChatCompletionFunctionToolParam(TypedDict):
    """A function that the model may call."""

    function: FunctionDefinition
    type: Literal["function"]


class FunctionName(TypedDict):
    """That of a function."""

    name: str


class ChatCompletionNamedToolChoiceParam(TypedDict):
    """The function that the model has to call."""

    function: FunctionName
    type: Literal["function"]


ChatCompletionToolChoiceOptionParam = Literal["none", "auto", "required"] | ChatCompletionNamedToolChoiceParam


class ChatCompletionStreamOptionsParam(TypedDict, total=False):
    """What a stream ends with."""

    include_obfuscation: bool
    include_usage: bool
