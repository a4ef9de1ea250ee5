"""The messages of a conversation, and what becomes of them in a turn; does no I/O beside reading and writing files.

A turn works on a copy. So one that fails leaves the conversation as it was, and one that is left early what its caller saw.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, cast

from mlxbridge.errors import UsageError
from mlxbridge.guest.requests import OPTIONS, chat_options, check_names, generate_params, shown, wrong
from mlxbridge.guest.tool_loop import WRITE_AGAIN, ToolLoop
from mlxbridge.guest.tools import encode_answer
from mlxbridge.types import (
    AnyTool,
    CallOptions,
    GenerateOptions,
    Generation,
    Message,
    Options,
    TextPart,
    TokenizeOptions,
    ToolCall,
)

WhenFull = Literal["refuse", "drop_oldest"]
"""What to do with a conversation that the model's context does not hold any more."""

Said = str | Sequence[TextPart]


class History:
    """What the blocking conversation and the async one have in common.

    Attributes:
        messages: all that was said, the system message first if there is one; yours to read, and between turns to change.
    """

    _MAY_WAIT: bool

    def __init__(
        self,
        *,
        system: str | None,
        messages: Sequence[Message],
        tools: Sequence[AnyTool] | None,
        when_full: WhenFull,
        max_rounds: int,
        options: CallOptions,
    ) -> None:
        """Begin with what was said before.

        Raises:
            UsageError: an argument is wrong.
        """
        if when_full not in ("refuse", "drop_oldest"):
            raise wrong("when_full", f'must be "refuse" or "drop_oldest", not {shown(when_full)}')
        if tools is not None and (isinstance(tools, str | Mapping) or not isinstance(tools, Sequence)):
            raise wrong("tools", f"must be a list of Python functions or schemas, not {shown(tools)}")
        self.messages: list[Message] = _checked(messages)
        if system is not None:
            if self.messages and self.messages[0].get("role") == "system":
                raise wrong("system", "the messages begin with a system message already")
            self.messages.insert(0, {"role": "system", "content": system})
        self._num_first = len(self.messages)
        self._tools = list(tools or ())
        self._when_full = when_full
        self._max_rounds = max_rounds
        self._options = options
        self._turn: Turn | None = None
        # What cannot be sent or run is refused before anything is said.
        generate_params(None, chat_options([], cast(Options, options)))
        if self._runs_tools:
            self._loop([], options)

    def __repr__(self) -> str:
        last = f", the last {shown(self.messages[-1])}" if self.messages else ""
        return f"<{type(self).__name__} of {len(self.messages)} messages{last}>"

    def answer_tool(self, call: ToolCall, result: Any) -> None:
        """Tell the model what a tool returned that it called, before it is asked to go on with ``say()``.

        Args:
            call: one of the last answer's ``tool_calls``.
            result: a text, or what is then told as JSON.

        Raises:
            UsageError: nobody waits for that.

        Example:
            >>> schema = {"type": "object", "properties": {"city": {"type": "string"}}}
            >>> tool = {"type": "function", "function": {"name": "get_weather", "parameters": schema}}
            >>> talk = client.conversation(model="caller", tools=[tool])
            >>> for call in talk.say("What is the weather in Tokyo?").tool_calls:
            ...     talk.answer_tool(call, f"rain in {call.arguments['city']}")
            >>> print(talk.say())
            It rains in Tokyo.
        """
        self._check_idle()
        if call.id not in _unanswered(self.messages):
            raise wrong("call", f"the last answer has no call {shown(call.id)} that waits for its result")
        self.messages.append(
            {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": encode_answer(result)}
        )

    def undo(self) -> None:
        """Take the last turn back: all from the last user message on.

        Raises:
            UsageError: there is none, or one is under way.

        Example:
            >>> talk = client.conversation()
            >>> answer = talk.say("What is 27 + 15?")
            >>> talk.undo()
            >>> talk.messages
            []
        """
        self._check_idle()
        starts = _starts(self.messages)
        if not starts:
            raise UsageError("there is no turn to take back")
        del self.messages[starts[-1] :]

    def reset(self) -> None:
        """Forget all that was said since the beginning.

        Raises:
            UsageError: a turn is under way.

        Example:
            >>> talk = client.conversation(system="You answer briefly.")
            >>> answer = talk.say("What is 27 + 15?")
            >>> talk.reset()
            >>> len(talk.messages)
            1
        """
        self._check_idle()
        del self.messages[self._num_first :]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the messages to a file, as JSON: ``{"messages": […]}``.

        Raises:
            OSError: it cannot be written.

        Example:
            >>> talk = client.conversation(system="You answer briefly.")
            >>> talk.save(folder / "talk.json")
        """
        text = json.dumps({"messages": self.messages}, ensure_ascii=False, indent=1)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")

    def load(self, path: str | PathLike[str]) -> None:
        """Go on with the messages of a file that ``save`` wrote, in place of these.

        Raises:
            UsageError: it is none, or a turn is under way.
            OSError: it cannot be read.

        Example:
            >>> client.conversation(system="You answer briefly.").save(folder / "talk.json")
            >>> talk = client.conversation()
            >>> talk.load(folder / "talk.json")
            >>> talk.messages[0]["content"]
            'You answer briefly.'
        """
        self._check_idle()
        with open(path, encoding="utf-8") as file:
            try:
                saved = json.load(file)
            except ValueError as error:
                raise wrong("path", f"{path} is no JSON ({error})") from error
        messages = saved.get("messages") if isinstance(saved, dict) else None
        if not isinstance(messages, list) or not all(
            isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages
        ):
            raise wrong("path", f"{path} has no conversation in it")
        self.messages = cast(list[Message], messages)
        self._num_first = 1 if messages and messages[0]["role"] == "system" else 0

    @property
    def _runs_tools(self) -> bool:
        return bool(self._tools) and all(map(callable, self._tools))

    def _loop(self, messages: list[Message], options: CallOptions) -> ToolLoop:
        return ToolLoop(
            messages,
            self._tools,
            options,
            max_rounds=self._max_rounds,
            raise_errors=False,
            may_wait=self._MAY_WAIT,
        )

    def _begin(self, text: Said | None, options: CallOptions, response_format: Any) -> Turn:
        """A turn; the conversation is its own until it is over."""
        self._check_idle()
        for name in ("tools", "messages"):
            if name in options:
                raise wrong(name, "is for the whole conversation, not for a turn")
        check_names(options, OPTIONS, ())
        messages = _checked(self.messages)
        if waiting := _unanswered(messages):
            raise UsageError(
                f"{len(waiting)} tool calls have no result yet: give it with answer_tool(call, result)"
            )
        if text is not None:
            messages.append({"role": "user", "content": text})
        elif not messages or messages[-1].get("role") not in ("tool", "user"):
            raise wrong("text", "what is to be said?")
        given = cast(CallOptions, {**self._options, **options, "response_format": response_format})
        loop = self._loop(messages, given) if self._runs_tools else None
        self._turn = Turn(self, messages, cast(Options, {**given, "tools": self._tools or None}), loop)
        return self._turn

    def _counted(self, options: TokenizeOptions) -> TokenizeOptions:
        own = {
            name: value for name, value in self._options.items() if name in TokenizeOptions.__annotations__
        }
        return cast(TokenizeOptions, {**own, "tools": self._tools or None, **options})

    def _check_idle(self) -> None:
        if self._turn is not None:
            raise UsageError("the last turn is under way: read its stream to the end, or close it")


class Turn:
    """One of a conversation's turns.

    Attributes:
        loop: runs the tools that the model calls; None where that is the caller's.
    """

    def __init__(
        self, history: History, messages: list[Message], options: Options, loop: ToolLoop | None
    ) -> None:
        self._history = history
        self._messages = messages if loop is None else loop.messages
        self._options = options
        self.loop = loop

    @property
    def options(self) -> GenerateOptions:
        """What to ask next."""
        return chat_options(list(self._messages), self._options) if self.loop is None else self.loop.options

    def take(self, generation: Generation) -> list[ToolCall] | None:
        """Add an answer; calls to run, of each of which ``loop`` is told, or None at the end of the turn."""
        if self.loop is not None:
            calls = self.loop.take(generation)
            if calls is not None:
                return calls
        else:
            self._messages.append(generation.message)
        self._end(self._messages)
        return None

    def drop_oldest(self) -> bool:
        """Make room in the context, if that is wanted; whether there was anything to drop."""
        if self._history._when_full != "drop_oldest":
            return False
        messages = self._messages
        starts = _starts(messages)
        if len(starts) < 2:  # the first is what has just been said
            return False
        del messages[starts[0] : starts[1]]
        return True

    def leave(self, text: str) -> None:
        """The turn was left early: what had come of the answer is kept; the turn is taken back if that is nothing."""
        if text:
            self._messages.append({"role": "assistant", "content": text})
            self._end(self._messages)
        else:
            self.fail()

    def fail(self) -> None:
        """The turn is taken back."""
        self._end(None)

    def _end(self, messages: list[Message] | None) -> None:
        if self._history._turn is self:
            self._history._turn = None
            if messages is not None:
                self._history.messages = messages


def _checked(messages: Any) -> list[Message]:
    """The messages, in a list of their own; what is wrong in them the host says.

    Raises:
        UsageError: they are none.
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Iterable):
        raise wrong("messages", f"must be a list of maps with role and content, not {shown(messages)}")
    found = list(messages)
    for place, message in enumerate(found):
        if not isinstance(message, Mapping):
            raise wrong(f"messages[{place}]", f"must be a map with role and content, not {shown(message)}")
    return found


def _unanswered(messages: Sequence[Message]) -> list[str]:
    """Ids of the calls of the last answer that have no result; a call may have no id."""
    answered: list[Any] = []
    for message in reversed(messages):
        if message.get("role") == "tool":
            answered.append(message.get("tool_call_id"))
        else:
            calls: Any = message.get("tool_calls")
            ids = (
                [call.get("id") for call in calls if isinstance(call, Mapping)]
                if isinstance(calls, list | tuple)
                else []
            )
            return [one for one in ids if isinstance(one, str) and one not in answered]
    return []


def _starts(messages: Sequence[Message]) -> list[int]:
    """Where the turns begin."""
    return [
        place
        for place, message in enumerate(messages)
        if message.get("role") == "user" and message.get("content") != WRITE_AGAIN
    ]
