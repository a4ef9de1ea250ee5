"""What was typed in earlier chats."""

from __future__ import annotations

import contextlib
import json
import os

MOST_ENTRIES = 1000


def usual_path() -> str:
    """Where it is kept: ``$XDG_STATE_HOME/mlxbridge/chat_history``."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "mlxbridge", "chat_history")


class HistoryFile:
    """Entries, a JSON string a line, in a file for its owner's eyes; where none can be written, a chat goes on without.

    Args:
        path: of the file; None keeps nothing.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path

    def read(self) -> list[str]:
        """The latest entries, the oldest first."""
        if self._path is None:
            return []
        try:
            with open(self._path, encoding="utf-8", errors="replace") as file:
                lines = file.readlines()
        except OSError:
            return []
        entries = []
        for line in lines[-MOST_ENTRIES:]:
            with contextlib.suppress(ValueError):
                if isinstance(entry := json.loads(line), str):
                    entries.append(entry)
        if len(lines) > 2 * MOST_ENTRIES:
            self._write(entries, os.O_TRUNC)
        return entries

    def add(self, entry: str) -> None:
        """One more."""
        self._write([entry], os.O_APPEND)

    def _write(self, entries: list[str], mode: int) -> None:
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            with open(os.open(self._path, os.O_WRONLY | os.O_CREAT | mode, 0o600), "wb") as file:
                file.write(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
