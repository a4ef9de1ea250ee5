"""Messages of a chat, as ``create`` takes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Required, TypedDict

ChatCompletionRole = Literal["developer", "system", "user", "assistant", "tool", "function"]


class ChatCompletionContentPartTextParam(TypedDict, total=False):
    """A text, where a content is several."""

    text: Required[str]
    type: Required[Literal["text"]]


ChatCompletionContentPartParam = ChatCompletionContentPartTextParam
Content = str | Iterable[ChatCompletionContentPartTextParam]


class FunctionCall(TypedDict):
    """The function that was called, and its arguments as JSON text."""

    arguments: str
    name: str


class ChatCompletionMessageToolCallParam(TypedDict):
    """A call, given back."""

    id: str
    function: FunctionCall
    type: Literal["function"]


class ChatCompletionSystemMessageParam(TypedDict, total=False):
    """What the model is told before all."""

    content: Required[Content]
    role: Required[Literal["system"]]
    name: str


class ChatCompletionDeveloperMessageParam(TypedDict, total=False):
    """The same."""

    content: Required[Content]
    role: Required[Literal["developer"]]
    name: str


class ChatCompletionUserMessageParam(TypedDict, total=False):
    """What the user says."""

    content: Required[Content]
    role: Required[Literal["user"]]
    name: str


class ChatCompletionAssistantMessageParam(TypedDict, total=False):
    """What the model said; ``tool_calls`` are the calls that it made."""

    role: Required[Literal["assistant"]]
    content: Content | None
    name: str
    refusal: str | None
    tool_calls: Iterable[ChatCompletionMessageToolCallParam]


class ChatCompletionToolMessageParam(TypedDict):
    """What a call gave."""

    content: Content
    role: Literal["tool"]
    tool_call_id: str


ChatCompletionMessageParam = (
    ChatCompletionDeveloperMessageParam
    | ChatCompletionSystemMessageParam
    | ChatCompletionUserMessageParam
    | ChatCompletionAssistantMessageParam
    | ChatCompletionToolMessageParam
)
