"""``parse``: answers as objects of the type that was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from mlxbridge.compat.openai.chat_completion import chat_completion
from mlxbridge.compat.openai.errors import LengthFinishReasonError
from mlxbridge.compat.openai.objects import ChatCompletion
from mlxbridge.compat.openai.parameters import Plan
from mlxbridge.compat.refusal import refused
from mlxbridge.errors import UnreadableAnswer
from mlxbridge.types import Generation


def parse_answers(plan: Plan, answers: Sequence[Generation]) -> ChatCompletion:
    """The answers, each message with ``parsed`` (None if the model called tools, or no type was asked for), and each call with
    ``parsed_arguments``.

    Raises:
        LengthFinishReasonError: one was cut.
        UsageError: they were asked for as a stream.
    """
    if plan.is_stream:
        raise refused("stream", "parse reads whole answers")
    made = chat_completion(answers, is_parsed=True)
    for choice, answer in zip(made.choices, answers, strict=True):
        for call, told in zip(
            choice.message.tool_calls or (),
            (told for told in answer.tool_calls if not told.malformed),
            strict=True,
        ):
            call.function.parsed_arguments = told.arguments
        if plan.options.get("response_format") is None or answer.tool_calls:
            continue
        try:
            choice.message.parsed = answer.parsed
        except UnreadableAnswer as error:
            if answer.finish_reason == "length":
                raise LengthFinishReasonError(completion=made) from error
            raise
    return made
