"""``run_tools``: the chat that goes on as long as a model calls tools; does no I/O.

A client asks with ``options``, hands each answer to ``take``, and has the calls run that this gives, until there are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import isawaitable, iscoroutine, iscoroutinefunction
from typing import Any, cast

from mlxbridge.guest.requests import OPTIONS, chat_options, check_names, shown, wrong
from mlxbridge.guest.tools import encode_answer, tool_of
from mlxbridge.types import (
    AnyTool,
    CallOptions,
    GenerateOptions,
    Generation,
    Message,
    Options,
    ToolCall,
    ToolRun,
)

WRITE_AGAIN = "The tool call could not be read. Write it again."
"""What a model is told, as by the user, that meant to call a tool and failed at it."""
_ASYNC = "an async function; AsyncClient runs them"


class ToolLoop:
    """One such chat.

    Attributes:
        messages: the chat so far.
    """

    def __init__(
        self,
        messages: str | Sequence[Message],
        tools: Sequence[AnyTool],
        options: CallOptions,
        *,
        max_rounds: int,
        raise_errors: bool,
        may_wait: bool,
    ) -> None:
        """Begin with nothing asked.

        Args:
            may_wait: tools may be async functions.

        Raises:
            UsageError: a tool is no function, two have one name, or an argument is wrong.
        """
        if isinstance(tools, str | Mapping) or not isinstance(tools, Sequence):
            raise wrong("tools", f"must be a list of Python functions, not {shown(tools)}")
        if type(max_rounds) is not int or max_rounds < 1:
            raise wrong("max_rounds", f"must be a whole number from 1, not {shown(max_rounds)}")
        for name in ("tools", "messages"):
            if name in options:
                raise wrong(name, "is given twice")
        check_names(options, OPTIONS, ())
        named = [tool_of(tool, f"tools[{place}]") for place, tool in enumerate(tools)]
        for place, tool in enumerate(named):
            if not may_wait and iscoroutinefunction(tool.function):
                raise wrong(f"tools[{place}]", f"{tool.name} is {_ASYNC}")
        self._tools = {tool.name: tool for tool in named}
        if len(self._tools) < len(named):
            raise wrong("tools", "two of them have the same name")
        self._options = cast(Options, {**options, "tools": named})
        self.messages = list(chat_options(messages, {})["messages"] or ())
        self._max_rounds = max_rounds
        self._num_rounds = 0
        self._raise_errors = raise_errors

    @property
    def options(self) -> GenerateOptions:
        """What to ask next."""
        options = chat_options(list(self.messages), self._options)
        choice = options.get("tool_choice")
        if self._num_rounds and choice not in (None, "auto", "none"):  # else it would have to call for ever
            options["tool_choice"] = "auto"
        return options

    def take(self, generation: Generation) -> list[ToolCall] | None:
        """Add an answer to the chat.

        Returns:
            Calls to run, with ``run`` or ``run_side_by_side``; None if that was the last answer.
        """
        malformed = [call for call in generation.tool_calls if call.malformed]
        calls = [call for call in generation.tool_calls if not call.malformed]
        is_over = generation.finish_reason not in ("tool_calls", "stop") or not generation.tool_calls
        if is_over or self._num_rounds == self._max_rounds:
            self.messages.append(generation.message)
            return None
        self._num_rounds += 1
        if calls:
            self.messages.append(generation.message)
        else:  # nothing that a tool could answer; let it see what it wrote
            written = generation.text + "".join(call.text for call in malformed)
            self.messages.append({"role": "assistant", "content": written})
            self.messages.append({"role": "user", "content": WRITE_AGAIN})
        return calls

    def run(self, calls: Sequence[ToolCall]) -> None:
        """Run tools one after the other, and tell the model what came of them.

        Raises:
            UsageError: one has to be awaited.
            Exception: what a tool raised, where errors are to be raised.
        """
        for call in calls:
            try:
                result = self._begin(call)
                answer = None if isawaitable(result) else encode_answer(result)
            except Exception as error:
                self._fail(call, error)
                continue
            if answer is None:
                if iscoroutine(result):
                    result.close()
                raise wrong(f"tools.{call.name}", f"is {_ASYNC}")
            self._add(call, answer)

    async def run_side_by_side(self, calls: Sequence[ToolCall]) -> None:
        """As ``run``, for tools that may be async."""
        from asyncio import gather  # which the blocking client does without

        answers = await gather(*map(self._await, calls), return_exceptions=True)
        for call, answer in zip(calls, answers, strict=True):
            if isinstance(answer, Exception):
                self._fail(call, answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                self._add(call, answer)

    def finish(self, generation: Generation) -> ToolRun:
        """What it came to."""
        return ToolRun(generation=generation, messages=self.messages, num_rounds=self._num_rounds)

    async def _await(self, call: ToolCall) -> str:
        result = self._begin(call)
        return encode_answer(await result if isawaitable(result) else result)

    def _begin(self, call: ToolCall) -> Any:
        """Run a tool; what it returned, to be awaited if it is async.

        Raises:
            ValueError: there is no such tool, or the arguments are wrong.
            Exception: the tool's own.
        """
        tool = self._tools.get(call.name)
        if tool is None:
            raise ValueError(f"there is no tool {shown(call.name)}; there are {', '.join(self._tools)}")
        return tool.run(call)

    def _add(self, call: ToolCall, answer: str) -> None:
        """What a tool returned, as a text."""
        self.messages.append({"role": "tool", "tool_call_id": call.id, "name": call.name, "content": answer})

    def _fail(self, call: ToolCall, error: Exception) -> None:
        """Tell the model what a tool raised.

        Raises:
            Exception: it, where errors are to be raised.
        """
        if self._raise_errors:
            raise error
        said = (
            str(error) if isinstance(error, ValueError) and str(error) else f"{type(error).__name__}: {error}"
        )
        self._add(call, f"Error: {said}")
