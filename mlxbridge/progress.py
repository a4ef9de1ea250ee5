"""How far a download is, on a line of a terminal that is written over."""

from __future__ import annotations

import sys

from mlxbridge.facts import describe_size


class ProgressLine:
    """The line, on stderr; nothing where that is no terminal.

    Args:
        name: of what is downloaded.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_shown = sys.stderr is not None and sys.stderr.isatty()

    def show(self, done_bytes: int, total_bytes: int) -> None:
        """So much has come."""
        if self._is_shown:
            end = "\n" if done_bytes == total_bytes else ""
            text = f"{self._name}: {describe_size(done_bytes)} of {describe_size(total_bytes)}"
            print(f"\r\033[K{text}", end=end, file=sys.stderr, flush=True)
