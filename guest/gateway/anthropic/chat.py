"""Anthropic's messages, which are made of blocks, as the turns of a host's chat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from mlxbridge.compat.refusal import refused
from mlxbridge.guest.gateway.anthropic.checks import (
    read_choice,
    read_list,
    read_object,
    read_switch,
    read_text,
)
from mlxbridge.types import Message

_BETWEEN = "\n"
"""Stands between two blocks that become one text."""
_ATTRIBUTION = "x-anthropic-billing-header:"
"""Begins a system block that Claude Code counts requests with: no model is to read it, and it is another one each time, so
that no prefix of the prompt would ever be found again."""

# The members of each kind of block, and of messages.
_TEXT = ("type", "text", "cache_control", "citations")
_TOOL_USE = ("type", "id", "name", "input", "cache_control", "caller")
_TOOL_RESULT = ("type", "tool_use_id", "content", "is_error", "cache_control")
_THINKING = ("type", "thinking", "signature", "cache_control")
_REDACTED = ("type", "data", "cache_control")
_REFERENCE = ("type", "tool_name", "cache_control")
_FALLBACK = ("type", "from", "to", "trigger")
_MESSAGE = ("role", "content")
_SYSTEM_MESSAGE = (*_MESSAGE, "clear_at", "output_config")


@dataclass(slots=True)
class _Turn:
    """A turn under way."""

    role: str
    origin: str
    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    more: dict[str, str] = field(default_factory=dict)

    def message(self) -> Message:
        message: dict[str, Any] = {"role": self.role, "content": _BETWEEN.join(self.texts), **self.more}
        if self.reasoning:
            message["reasoning"] = _BETWEEN.join(self.reasoning)
        if self.calls:
            message["tool_calls"] = self.calls
        return cast(Message, message)


class Chat:
    """What was said, in the host's form: a tool's answer is a turn of its own, and turns of one role that follow each other
    are one.

    Attributes:
        loaded_tools: names of tools that a tool's answer refers to.
    """

    def __init__(self) -> None:
        self.loaded_tools: set[str] = set()
        self._turns: list[_Turn] = []
        self._tool_names: dict[str, str] = {}  # by the id of the call

    @property
    def messages(self) -> list[Message]:
        """The turns."""
        return [turn.message() for turn in self._turns]

    @property
    def origins(self) -> list[str]:
        """Where in the request each turn begins."""
        return [turn.origin for turn in self._turns]

    @property
    def last_role(self) -> str:
        """Who spoke last; "" if nobody did."""
        return self._turns[-1].role if self._turns else ""

    def turn(self, role: str, origin: str) -> _Turn:
        """The turn to add to: the last one, if it is of this role."""
        if self.last_role != role:
            self._turns.append(_Turn(role, origin))
        return self._turns[-1]

    def add_system(self, text: str, origin: str) -> None:
        """A system message. Most chat templates take one at the beginning alone: a later one becomes a part of what the
        user says, marked as what it is.
        """
        if not self._turns or self.last_role == "system":
            self.turn("system", origin).texts.append(text)
        else:
            self.turn("user", origin).texts.append(f"<system>\n{text}\n</system>")

    def add_call(self, call_id: str, name: str, arguments: Any, origin: str) -> None:
        """A call that the model made."""
        self._tool_names[call_id] = name
        function = {"name": name, "arguments": arguments}
        self.turn("assistant", origin).calls.append({"id": call_id, "type": "function", "function": function})

    def add_result(self, call_id: str, text: str, origin: str) -> None:
        """What a tool answered."""
        more = {"tool_call_id": call_id}
        if call_id in self._tool_names:
            more["name"] = self._tool_names[call_id]
        self._turns.append(_Turn("tool", origin, texts=[text], more=more))


def read_chat(system: Any, messages: Any) -> Chat:
    """The chat of a request.

    Args:
        system: a text, blocks of text, or None.
        messages: as in the request.

    Raises:
        UsageError: something is wrong, or nothing that the host's models can read; it names the place.
    """
    chat = Chat()
    if system is not None:
        texts = [text for text in _texts(system, "system") if not text.startswith(_ATTRIBUTION)]
        for text in texts:
            chat.add_system(text, "system")
    given = read_list(messages, "messages")
    questions = [place for place, message in enumerate(given) if _role(message) == "user"]
    for index, message in enumerate(given):
        path = f"messages.{index}"
        if _role(message) == "system":
            _read_system(chat, message, path, is_answered=index < max(questions, default=-1))
        else:
            _read_message(chat, message, path)
    if not given or not chat.last_role:
        raise refused("messages", "must have at least one message")
    if chat.last_role == "assistant":
        raise refused(
            f"messages.{len(given) - 1}.role",
            "the last message must not be the assistant's: the host's models begin their answers themselves "
            "(output_config.format says what one has to keep to)",
        )
    return chat


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _read_system(chat: Chat, value: Any, path: str, *, is_answered: bool) -> None:
    """What the system says amid a chat; some of it only until the user says something again."""
    message = read_object(value, path, _SYSTEM_MESSAGE)
    config = read_object(message.get("output_config", {}), f"{path}.output_config", ("effort",))
    if "effort" in config:
        read_text(config["effort"], f"{path}.output_config.effort")
    if not message.get("content") and config:
        return
    texts = _texts(_content(message, path), f"{path}.content")
    until = read_choice(message.get("clear_at", "never"), f"{path}.clear_at", ("never", "next_user_message"))
    for text in texts if until == "never" or not is_answered else ():
        chat.add_system(text, path)


def _read_message(chat: Chat, value: Any, path: str) -> None:
    role = read_choice(read_object(value, path).get("role"), f"{path}.role", _READERS)
    readers = _READERS[role]
    message = read_object(value, path, _MESSAGE)
    for block, place in _blocks(_content(message, path), f"{path}.content"):
        read = readers.get(block["type"])
        if read is None:
            raise _unreadable(block, place, role, readers)
        read(chat, block, place, path)


def _content(message: Mapping[str, Any], path: str) -> Any:
    """The content, which Anthropic's API refuses to find empty, too."""
    content = message.get("content")
    if content in ("", []):
        raise refused(f"{path}.content", "must not be empty")
    return content


def _unreadable(block: Mapping[str, Any], place: str, role: str, known: Mapping[str, Any]) -> Exception:
    kinds = ", ".join(known)
    return refused(
        f"{place}.type",
        f"{block['type']!r} is not supported: the host's models read text; the blocks of this role ({role}) are {kinds}",
    )


def _blocks(content: Any, path: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The blocks of a content, and where each stands; a text is one block."""
    if isinstance(content, str):
        yield {"type": "text", "text": content}, path
        return
    for index, value in enumerate(read_list(content, path)):
        place = f"{path}.{index}"
        block = read_object(value, place)
        read_text(block.get("type"), f"{place}.type")
        yield block, place


def _texts(content: Any, path: str) -> list[str]:
    """The texts of a content that may have no other blocks."""
    texts = []
    for block, place in _blocks(content, path):
        if block["type"] != "text":
            raise refused(
                f"{place}.type", f"{block['type']!r} is not supported; here are blocks of text alone"
            )
        texts.append(_text(block, place))
    return texts


def _text(block: Mapping[str, Any], place: str) -> str:
    known = read_object(block, place, _TEXT)
    if known.get("citations"):
        raise refused(f"{place}.citations", "the host's models cite nothing; leave it out")
    return read_text(known.get("text"), f"{place}.text")


# -- blocks, by who says them


def _user_text(chat: Chat, block: dict[str, Any], place: str, origin: str) -> None:
    chat.turn("user", origin).texts.append(_text(block, place))


def _tool_result(chat: Chat, block: dict[str, Any], place: str, origin: str) -> None:
    known = read_object(block, place, _TOOL_RESULT)
    call_id = read_text(known.get("tool_use_id"), f"{place}.tool_use_id")
    texts = []
    for inner, inside in _blocks(known.get("content", ""), f"{place}.content"):
        if inner["type"] == "tool_reference":
            reference = read_object(inner, inside, _REFERENCE)
            name = read_text(reference.get("tool_name"), f"{inside}.tool_name")
            chat.loaded_tools.add(name)
            texts.append(f"The tool {name} can be called from now on.")
        elif inner["type"] == "text":
            texts.append(_text(inner, inside))
        else:
            raise refused(
                f"{inside}.type", f"{inner['type']!r} is not supported: the host's models read text"
            )
    text = _BETWEEN.join(texts)
    is_error = read_switch(known.get("is_error", False), f"{place}.is_error")
    chat.add_result(call_id, f"Error: {text}" if is_error else text, origin)


def _assistant_text(chat: Chat, block: dict[str, Any], place: str, origin: str) -> None:
    chat.turn("assistant", origin).texts.append(_text(block, place))


def _tool_use(chat: Chat, block: dict[str, Any], place: str, origin: str) -> None:
    known = read_object(block, place, _TOOL_USE)
    call_id, name = (read_text(known.get(key), f"{place}.{key}") for key in ("id", "name"))
    caller = read_object(known.get("caller", {"type": "direct"}), f"{place}.caller", ("type",))
    read_choice(caller.get("type"), f"{place}.caller.type", ("direct",))
    arguments = block.get("input")
    read_object(arguments, f"{place}.input")  # what is null in them stays
    chat.add_call(call_id, name, arguments, origin)


def _thinking(chat: Chat, block: dict[str, Any], place: str, origin: str) -> None:
    text = read_text(read_object(block, place, _THINKING).get("thinking"), f"{place}.thinking")
    turn = chat.turn("assistant", origin)
    if text:  # of what was not shown there is only a signature
        turn.reasoning.append(text)


def _redacted_thinking(chat: Chat, block: dict[str, Any], place: str, origin: str) -> None:
    read_object(block, place, _REDACTED)  # nobody here can read what is in it


def _fallback(chat: Chat, block: dict[str, Any], place: str, origin: str) -> None:
    read_object(block, place, _FALLBACK)  # says which model went on, and nothing to a model


_Reader = Callable[[Chat, dict[str, Any], str, str], None]
_READERS: Mapping[str, Mapping[str, _Reader]] = {
    "user": {"text": _user_text, "tool_result": _tool_result},
    "assistant": {
        "text": _assistant_text,
        "tool_use": _tool_use,
        "thinking": _thinking,
        "redacted_thinking": _redacted_thinking,
        "fallback": _fallback,
    },
}
