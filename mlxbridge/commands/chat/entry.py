"""Where a chat's messages come from: a terminal, as comfortable as what is installed makes it, or a pipe."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Protocol

from mlxbridge.commands.chat.history import HistoryFile, usual_path
from mlxbridge.errors import UsageError

CONTINUED = "... "
_QUOTES = '"""'

ReadLine = Callable[[str], str | None]
"""Shows a prompt; the line without its end, or None at the end of the input."""


class Entry(Protocol):
    """Reads messages.

    Attributes:
        is_person: somebody types them.
    """

    is_person: bool

    def read(self, prompt: str) -> str | None:
        """The next message, or None if there is none; raises KeyboardInterrupt at Ctrl-C."""


def open_entry(*, keeps_history: bool, is_plain: bool) -> Entry:
    """The most comfortable one that there is.

    Args:
        keeps_history: keep what is typed, and offer what was typed before.
        is_plain: show nothing on stdout.

    Raises:
        UsageError: stdin is closed.
    """
    if sys.stdin is None:
        raise UsageError("stdin is closed")
    if not sys.stdin.isatty():
        return PipeEntry()
    if is_plain or not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return PlainEntry()
    history = HistoryFile(usual_path() if keeps_history else None)
    if importlib.util.find_spec("prompt_toolkit") is not None:
        from mlxbridge.commands.chat.rich_entry import RichEntry

        return RichEntry(history)
    return TerminalEntry(history)


def read_message(prompt: str, read_line: ReadLine) -> str | None:
    r"""A message of one line, or of several: those that end with ``\``, with the next one, or all between two ``\"""``."""
    line = read_line(prompt)
    if line is None:
        return None
    if line.lstrip().startswith(_QUOTES):
        return _read_block(line.lstrip().removeprefix(_QUOTES), read_line)
    lines = []
    while line is not None and line.endswith("\\"):
        lines.append(line[:-1])
        line = read_line(CONTINUED)
    return "\n".join([*lines, line or ""])


def _read_block(line: str | None, read_line: ReadLine) -> str:
    lines = []
    while line is not None and not line.rstrip().endswith(_QUOTES):
        lines.append(line)
        line = read_line(CONTINUED)
    if line is not None:
        lines.append(line.rstrip().removesuffix(_QUOTES))
    return "\n".join(lines).strip("\n")


class PipeEntry:
    """A pipe, or a file: nothing is shown."""

    is_person = False

    def read(self, prompt: str) -> str | None:
        """The next message."""
        return read_message(prompt, _read_stdin)


class PlainEntry:
    """A terminal as it is by itself; prompts are on stderr."""

    is_person = True

    def read(self, prompt: str) -> str | None:
        """The next message."""
        return read_message(prompt, self._read_line)

    def _read_line(self, prompt: str) -> str | None:
        print(prompt, end="", file=sys.stderr, flush=True)
        return _read_stdin(prompt)


def _read_stdin(_: str) -> str | None:
    try:
        line = sys.stdin.readline()
    except UnicodeDecodeError as error:
        raise UsageError(f"stdin is no UTF-8 ({error.reason})") from error
    return line.removesuffix("\n") if line else None


class TerminalEntry:
    """A terminal with readline, where Python has it: lines can be edited, and arrow keys bring back earlier ones."""

    is_person = True

    def __init__(self, history: HistoryFile) -> None:
        self._history = history
        self._typed: list[str] = []
        self._remember: Callable[[str], object] = lambda line: None
        with contextlib.suppress(ImportError):
            import readline

            readline.set_auto_history(False)
            for entry in history.read():
                for line in entry.splitlines():
                    readline.add_history(line)
            self._remember = readline.add_history

    def read(self, prompt: str) -> str | None:
        """The next message."""
        self._typed.clear()
        try:
            return read_message(prompt, self._read_line)
        finally:
            for line in filter(str.strip, self._typed):
                self._remember(line)
                self._history.add(line)

    def _read_line(self, prompt: str) -> str | None:
        try:
            line = input(prompt)
        except EOFError:
            print()
            return None
        except UnicodeDecodeError:
            return ""
        self._typed.append(line)
        return line
