"""A terminal with prompt-toolkit: messages of several lines, edited as a whole."""

from __future__ import annotations

from typing import Any

from mlxbridge.commands.chat.entry import CONTINUED, read_message
from mlxbridge.commands.chat.history import HistoryFile


class RichEntry:
    """Enter sends the message, Alt-Enter begins a new line, arrow keys bring back earlier messages.

    Raises:
        ImportError: prompt-toolkit is not installed.
    """

    is_person = True

    def __init__(self, history: HistoryFile) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import InMemoryHistory
        from prompt_toolkit.key_binding import KeyBindings

        keys = KeyBindings()
        keys.add("enter")(_send)
        keys.add("escape", "enter")(_begin_line)
        earlier = InMemoryHistory(history.read())
        self._history = history
        self._session: PromptSession[str] = PromptSession(
            history=earlier, key_bindings=keys, multiline=True, prompt_continuation=CONTINUED
        )

    def read(self, prompt: str) -> str | None:
        """The next message."""
        return read_message(prompt, self._read)

    def _read(self, prompt: str) -> str | None:
        try:
            text: str = self._session.prompt(prompt)
        except EOFError:
            return None
        if text.strip():
            self._history.add(text)
        return text


def _send(event: Any) -> None:
    event.current_buffer.validate_and_handle()


def _begin_line(event: Any) -> None:
    event.current_buffer.insert_text("\n")
