"""``parse``: answers as objects of the type that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlxbridge.compat.openai.chat_completion import chat_completion
from mlxbridge.compat.openai.errors import LengthFinishReasonError
from mlxbridge.compat.openai.function_tools import arguments_as_asked
from mlxbridge.compat.openai.objects import ChatCompletion
from mlxbridge.compat.openai.parameters import Plan
from mlxbridge.errors import UnreadableAnswer
from mlxbridge.types import Generation


def parse_answers(plan: Plan, answers: Sequence[Generation], tools: Any) -> ChatCompletion:
    """The answers, each message with ``parsed`` (None if the model called tools, or no type was asked for), and each call with
    ``parsed_arguments``.

    Args:
        plan: of the call.
        answers: to it.
        tools: as the caller gave them.

    Raises:
        LengthFinishReasonError: one was cut.
    """
    made = chat_completion(answers, is_parsed=True)
    for choice, answer in zip(made.choices, answers, strict=True):
        for call in choice.message.tool_calls or ():
            function = call.function
            function.parsed_arguments = arguments_as_asked(tools, function.name, function.parsed_arguments)
        if plan.options.get("response_format") is not None and not answer.tool_calls:
            choice.message.parsed = parsed_of(answer, made)
    return made


def parsed_of(answer: Generation, completion: ChatCompletion) -> Any:
    """An answer as an object of the type that was asked for.

    Raises:
        LengthFinishReasonError: it was cut; it has the completion.
    """
    try:
        return answer.parsed
    except UnreadableAnswer as error:
        if answer.finish_reason == "length":
            raise LengthFinishReasonError(completion=completion) from error
        raise
