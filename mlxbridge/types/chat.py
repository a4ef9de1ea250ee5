"""What is asked: messages, tools, prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict


class TextPart(TypedDict):
    """A part of a message's content: ``{"type": "text", "text": "…"}``; parts are joined as they are."""

    type: Literal["text"]
    text: str


class Message(TypedDict):
    """One turn of a chat: ``{"role": "user", "content": "…"}``.

    An assistant's turn may have ``tool_calls`` as OpenAI's have them (``{"function": {"name": …, "arguments": …}}``, the
    arguments as a map or as JSON of one) beside its content or in place of it; a tool's turn may say what it answers.
    ``Generation.message`` is such a turn. Of ``reasoning`` the template decides how much the model reads again.
    """

    role: str
    content: NotRequired[str | Sequence[TextPart] | None]
    tool_calls: NotRequired[Sequence[Mapping[str, Any]]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]
    reasoning: NotRequired[str]


class NamedTool(TypedDict):
    """A ``tool_choice`` of one tool."""

    name: str


class FunctionChoice(TypedDict):
    """The same in OpenAI's form."""

    type: Literal["function"]
    function: NamedTool


ToolChoice = Literal["auto", "none", "required"] | NamedTool

AnyTool = Mapping[str, Any] | Callable[..., Any]
"""A function tool of OpenAI's, or a Python function or a ``Tool`` that is described as one."""

Prompt = str | Sequence[int]
"""Raw text, as in mlx_lm (no chat template), or token ids."""
