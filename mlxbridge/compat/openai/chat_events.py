"""What ``chat.completions.stream`` tells: each chunk, and what it adds up to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlxbridge.compat.openai.chat_completion import ChatChunks
from mlxbridge.compat.openai.function_tools import arguments_as_asked
from mlxbridge.compat.openai.objects import (
    ChatCompletion,
    Choice,
    ChoiceDeltaToolCall,
    ChoiceLogprobs,
    Object,
    ParsedChatCompletion,
    ParsedChatCompletionMessage,
    ParsedChoice,
    ParsedFunction,
    ParsedFunctionToolCall,
)
from mlxbridge.compat.openai.parameters import Plan
from mlxbridge.compat.openai.parsing import parse_answers, parsed_of
from mlxbridge.errors import UsageError


class ChunkEvent(Object):
    """A chunk; ``snapshot`` is what all so far add up to."""


class ContentDeltaEvent(Object):
    """A piece of a text; ``parsed`` is None: the object comes whole, with ``ContentDoneEvent``."""


class ContentDoneEvent(Object):
    """A text is whole."""


class FunctionToolCallArgumentsDeltaEvent(Object):
    """A piece of a call's arguments: none, and then all."""


class FunctionToolCallArgumentsDoneEvent(Object):
    """The arguments of a call are whole."""


class LogprobsContentDeltaEvent(Object):
    """Log-probabilities of a piece of a text."""


class LogprobsContentDoneEvent(Object):
    """Those of all of it."""


class ChatEvents:
    """The events of one chat, and the completion that it ends with.

    Args:
        chunks: those that are taken.
        plan: of the call.
        tools: as the caller gave them.

    Attributes:
        snapshot: what all chunks so far add up to.
    """

    def __init__(self, chunks: ChatChunks, plan: Plan, tools: Any) -> None:
        self.snapshot = ParsedChatCompletion(choices=[], object="chat.completion")
        self._chunks = chunks
        self._plan = plan
        self._tools = tools
        form = plan.options.get("response_format")
        self._is_typed = form is not None and not isinstance(form, Mapping)
        self._whole: set[tuple[int, str]] = set()  # what was told of each answer
        self._open: dict[int, ParsedFunctionToolCall] = {}  # calls whose end is not, by answer

    def take(self, chunk: Object) -> Iterator[Object]:
        """What a chunk tells, itself first.

        Raises:
            LengthFinishReasonError: ``max_tokens`` cut what was to be an object.
        """
        self.snapshot.update(
            {name: value for name, value in chunk.items() if name not in ("choices", "object")}
        )
        for choice in chunk.choices:
            self._add(choice, self._choice(choice.index))
        yield ChunkEvent(type="chunk", chunk=chunk, snapshot=self.snapshot)
        for choice in chunk.choices:
            own = self._choice(choice.index)
            yield from self._tell_deltas(choice, own)
            yield from self._tell_ends(choice, own)

    def finish(self) -> ChatCompletion:
        """The completion, all chunks of which were taken.

        Raises:
            UsageError: the stream was closed before its end.
            LengthFinishReasonError: see ``parse_answers``.
        """
        answers = [answer for _, answer in sorted(self._chunks.answers.items())]
        if len(answers) < self._plan.num_choices:
            raise UsageError("the stream was closed before its end")
        made = parse_answers(self._plan, answers, self._tools)
        made.update({name: self.snapshot[name] for name in ("id", "created", "model")})
        return made

    def _choice(self, index: int) -> ParsedChoice:
        while len(self.snapshot.choices) <= index:
            message = ParsedChatCompletionMessage(role="assistant")
            self.snapshot.choices.append(ParsedChoice(index=len(self.snapshot.choices), message=message))
        choice: ParsedChoice = self.snapshot.choices[index]
        return choice

    def _add(self, choice: Choice, own: ParsedChoice) -> None:
        for name, value in choice.delta.items():
            if name == "tool_calls":
                _add_calls(own.message.setdefault(name, []), value)
            else:
                own.message[name] = value if name == "role" else (own.message.get(name) or "") + value
        if choice.logprobs is not None:
            own.setdefault("logprobs", ChoiceLogprobs(content=[])).content.extend(choice.logprobs.content)
        if choice.finish_reason is not None:
            own.finish_reason = choice.finish_reason

    def _tell_deltas(self, choice: Choice, own: ParsedChoice) -> Iterator[Object]:
        if choice.delta.content is not None:
            yield ContentDeltaEvent(
                type="content.delta", delta=choice.delta.content, snapshot=own.message.content, parsed=None
            )
        for call in choice.delta.tool_calls or ():
            yield FunctionToolCallArgumentsDeltaEvent(
                type="tool_calls.function.arguments.delta",
                index=call.index,
                arguments_delta=call.function.arguments,
                **own.message.tool_calls[call.index].function,
            )
        if choice.logprobs is not None:
            yield LogprobsContentDeltaEvent(
                type="logprobs.content.delta",
                content=choice.logprobs.content,
                snapshot=own.logprobs.content,
            )

    def _tell_ends(self, choice: Choice, own: ParsedChoice) -> Iterator[Object]:
        calls = choice.delta.tool_calls or ()
        if calls or choice.finish_reason is not None:
            yield from self._tell_text(own)
        begun = [own.message.tool_calls[call.index] for call in calls if call.id is not None]
        for after in [*begun, *([None] if choice.finish_reason is not None else [])]:
            if (before := self._open.pop(own.index, None)) is not None:
                yield self._arguments_done(before)
            if after is not None:
                self._open[own.index] = after

    def _tell_text(self, own: ParsedChoice) -> Iterator[Object]:
        if own.message.content and self._is_new(own.index, "content"):
            answer = self._chunks.answers.get(own.index)
            if answer is not None and self._is_typed:
                own.message.parsed = parsed_of(answer, self.snapshot)
            yield ContentDoneEvent(
                type="content.done", content=own.message.content, parsed=own.message.parsed
            )
        if own.logprobs is not None and self._is_new(own.index, "logprobs"):
            yield LogprobsContentDoneEvent(type="logprobs.content.done", content=own.logprobs.content)

    def _is_new(self, index: int, what: str) -> bool:
        told = (index, what) in self._whole
        self._whole.add((index, what))
        return not told

    def _arguments_done(self, call: ParsedFunctionToolCall) -> FunctionToolCallArgumentsDoneEvent:
        function = call.function
        function.parsed_arguments = arguments_as_asked(self._tools, function.name, function.parsed_arguments)
        return FunctionToolCallArgumentsDoneEvent(
            type="tool_calls.function.arguments.done", index=call.index, **function
        )


def _add_calls(own: list[ParsedFunctionToolCall], deltas: Sequence[ChoiceDeltaToolCall]) -> None:
    for call in deltas:
        if call.id is not None:
            function = ParsedFunction(**call.function, parsed_arguments=None)
            own.append(ParsedFunctionToolCall({**call, "function": function}))
        else:
            function = own[call.index].function
            function.arguments += call.function.arguments
            function.parsed_arguments = json.loads(function.arguments)
