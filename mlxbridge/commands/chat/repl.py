"""A chat: messages, and commands that begin with a slash."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from mlxbridge.answers import describe, harmless, plain, print_json, print_stream
from mlxbridge.commands.chat.entry import Entry
from mlxbridge.commands.chat.settings import parse_setting, setting_names
from mlxbridge.commands.exits import describe_failure
from mlxbridge.commands.options import show_loading
from mlxbridge.errors import BridgeError, UsageError
from mlxbridge.facts import summarize_facts
from mlxbridge.model_names import find_model

if TYPE_CHECKING:
    from mlxbridge.guest.blocking import Client
    from mlxbridge.types import Message

BANNER = "Ctrl-C stops an answer, Ctrl-D ends the chat, /help tells more."
KEYS = """\
A message of several lines: end each but the last with \\, or put it between two \"""; where prompt-toolkit is
installed, Alt-Enter begins a line, too. A message that is to begin with / needs a space before it."""


@dataclass(frozen=True)
class Command:
    """What a line that begins with its name does, with the rest of the line."""

    run: Callable[[Chat, str], None]
    argument: str
    help: str


class Chat:
    """A conversation, with what is set for its answers.

    Args:
        client: of the host.
        settings: by name, as ``Client.chat`` takes them.
        system: what the model is told before all.
        is_person: somebody types; errors do not end the chat then, nor does Ctrl-C.
        shows_stats: say on stderr what each answer took.
        as_json: print answers as JSON.
    """

    def __init__(
        self,
        client: Client,
        settings: Any,
        *,
        system: str | None,
        is_person: bool,
        shows_stats: bool,
        as_json: bool,
    ) -> None:
        self._client = client
        self._settings: dict[str, Any] = {
            name: value for name, value in settings.items() if value is not None
        }
        self._talk = client.conversation(system=system or None)
        self._is_person = is_person
        self._shows_stats = shows_stats
        self._as_json = as_json
        self._prompt = "> "
        self._is_over = False

    def run(self, entry: Entry) -> None:
        """Read and answer until there is no more.

        Raises:
            BridgeError, OSError, KeyboardInterrupt: what ended it, where no person is there to decide.
        """
        if self._is_person:
            _note(BANNER)
        while not self._is_over:
            try:
                message = entry.read(self._prompt)
                if message is None:
                    return
                self._take(message)
            except KeyboardInterrupt:
                if not self._is_person:
                    raise
                _note("\n(Ctrl-D ends the chat)")
            except BrokenPipeError:
                raise
            except (BridgeError, OSError) as error:  # the conversation is worth more than the turn
                if not self._is_person:
                    raise
                _note(describe_failure(error))

    def _take(self, message: str) -> None:
        if not message.strip():
            return
        if not message.startswith("/"):
            self._say(message)
            return
        name, _, argument = message.partition(" ")
        command = COMMANDS.get(name.rstrip())
        if command is None:
            raise UsageError(f"there is no {name.rstrip()}; /help lists what there is")
        command.run(self, argument.strip())

    def _say(self, text: str) -> None:
        with _one_interrupt():
            try:
                stream = self._talk.stream(text, **self._settings)
                if self._as_json:
                    print_json(plain(stream.read()))
                else:
                    print_stream(stream)
            except KeyboardInterrupt:
                if not self._is_person:
                    raise
                _note("(stopped)")
                return
        answer = stream.generation
        speed = f", {answer.tokens_per_second:.0f} tokens/s" if answer.tokens_per_second else ""
        self._prompt = f"{answer.model}{speed}> "
        if self._shows_stats:
            _note(describe(answer))

    def choose_model(self, name: str) -> None:
        """``/model``."""
        if name:
            self._take_settings({"model": name})
            self._prompt = f"{name}> "
            return
        models = self._client.list_models()
        asked = find_model(models, self._settings.get("model"))
        for model in models:
            facts = {"state": model.state, "source": model.source, **model.details}
            if "kind" not in facts:  # it was not loaded yet: its files tell
                facts["kind"] = next(iter(self._client.show_model(model.name).details["capabilities"]), None)
            mark = "*" if model is asked else " "
            _note(f"{mark} {model.name}  {model.state}  {summarize_facts(facts)}")

    def tell_system(self, text: str) -> None:
        """``/system``."""
        first = self._system
        if not text:
            _note(str(first[0].get("content", "")) if first else "(none)")
            return
        rest = self._talk.messages[len(first) :]
        self._talk.messages = [*([] if text == "-" else [_system_message(text)]), *rest]

    @property
    def _system(self) -> list[Message]:
        first = self._talk.messages[:1]
        return first if first and first[0]["role"] == "system" else []

    def set(self, text: str) -> None:
        """``/set``."""
        name, _, value = text.partition(" ")
        if not name:
            given = [f"{name} {value}" for name, value in self._settings.items()]
            _note("\n".join(given) or f"(nothing; there are {', '.join(setting_names())})")
        elif value.strip():
            self._take_settings(parse_setting(name, value.strip()))
        else:
            raise UsageError(f"/set: to what? /unset {name} has the host decide")

    def _take_settings(self, changed: Mapping[str, Any]) -> None:
        """Have settings, if the host takes them: it begins an answer with them.

        Raises:
            BridgeError: it does not, or cannot be asked; all is as it was.
        """
        settings = {**self._settings, **changed}
        show_loading(self._client, settings.get("model"))
        with self._client.chat("?", stream=True, **settings) as answer:
            next(answer, None)
        self._settings = settings

    def unset(self, name: str) -> None:
        """``/unset``."""
        if self._settings.pop(name.replace("-", "_"), None) is None:
            raise UsageError(f"/unset: {name or 'nothing'} is not set; /set shows what is")

    def save(self, path: str) -> None:
        """``/save``."""
        self._talk.save(_file("/save", path))
        _note(f"({len(self._talk.messages)} messages are in {path})")

    def load(self, path: str) -> None:
        """``/load``."""
        self._talk.load(_file("/load", path))
        if self._is_person:
            _note(f"({len(self._talk.messages)} messages)")

    def clear(self, _: str) -> None:
        """``/clear``."""
        self._talk = self._client.conversation(messages=self._system)

    def undo(self, _: str) -> None:
        """``/undo``."""
        self._talk.undo()

    def explain(self, _: str) -> None:
        """``/help``."""
        width = max(len(f"{name} {command.argument}") for name, command in COMMANDS.items())
        for name, command in COMMANDS.items():
            _note(f"{f'{name} {command.argument}':<{width}}  {command.help}")
        _note(KEYS)

    def leave(self, _: str) -> None:
        """``/exit``."""
        self._is_over = True


COMMANDS = {
    "/model": Command(Chat.choose_model, "[NAME]", "talk with another model; without a name: list them"),
    "/system": Command(Chat.tell_system, "[TEXT]", "what the model is told before all; - for nothing"),
    "/set": Command(Chat.set, "[NAME VALUE]", "such as /set temperature 0.7; without: show what is set"),
    "/unset": Command(Chat.unset, "NAME", "leave it to the host again"),
    "/undo": Command(Chat.undo, "", "take the last message and its answer back"),
    "/clear": Command(Chat.clear, "", "forget all but the system message (/reset, too)"),
    "/reset": Command(Chat.clear, "", "the same as /clear"),
    "/save": Command(Chat.save, "FILE", "write the conversation to a file, as JSON"),
    "/load": Command(Chat.load, "FILE", "go on with one that was saved"),
    "/help": Command(Chat.explain, "", "this"),
    "/exit": Command(Chat.leave, "", "end the chat; so does Ctrl-D"),
}


def _system_message(text: str) -> Message:
    return {"role": "system", "content": text}


def _file(command: str, path: str) -> str:
    if not path:
        raise UsageError(f"{command}: to be followed by the name of a file")
    return os.path.expanduser(path)


def _note(text: str) -> None:
    """Say what the model did not."""
    print(harmless(text, sys.stderr), file=sys.stderr, flush=True)


@contextmanager
def _one_interrupt() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt in the block once; more of them, while the first is dealt with, do nothing."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
