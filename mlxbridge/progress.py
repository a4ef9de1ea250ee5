"""How far a download or a load is, on a line of a terminal that is written over."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import Any

from mlxbridge.facts import describe_size

_EVERY_S = 0.1
_LEAST_BAR, _MOST_BAR = 10, 40
_EIGHTHS = " ▏▎▍▌▋▊▉"


class ProgressLine:
    """The line, on stderr; nothing where that is no terminal.

    Args:
        name: of what is downloaded.
        clock: seconds.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._is_shown = sys.stderr is not None and sys.stderr.isatty()
        self._is_open = False  # something stands on the line
        self._begun: tuple[float, int] | None = None  # when, and with how many bytes
        self._shown_at = float("-inf")

    def take(self, item: Mapping[str, Any]) -> None:
        """Show what a host tells of its progress (SPEC.md §10)."""
        done, total = item.get("bytes_done"), item.get("bytes_total")
        if isinstance(done, int) and isinstance(total, int):
            self.show(done, total)
        else:
            self._write(f"{self._name}: {item.get('stage', '')}")

    def show(self, done_bytes: int, total_bytes: int) -> None:
        """So much has come."""
        if not self._is_shown:
            return
        now = self._clock()
        if self._begun is None:
            self._begun = now, done_bytes
        if done_bytes >= total_bytes or now - self._shown_at >= _EVERY_S:
            self._shown_at = now
            self._write(self._describe(done_bytes, total_bytes, now))
        if done_bytes >= total_bytes:
            self.close()

    def close(self) -> None:
        """Leave the line as it is, and begin the next."""
        if self._is_open:
            print(file=sys.stderr, flush=True)
            self._is_open = False

    def _write(self, text: str) -> None:
        if self._is_shown:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
            self._is_open = True

    def _describe(self, done: int, total: int, now: float) -> str:
        share = done / total if total else 1.0
        head = f"{self._name}: {share:4.0%} "
        tail = f" {describe_size(done)} of {describe_size(total)}{self._describe_speed(done, total, now)}"
        width = min(get_terminal_size().columns - len(head) - len(tail) - 3, _MOST_BAR)
        return (
            f"{head}{_bar(share, width)}{tail}" if width >= _LEAST_BAR else f"{head}{tail}".replace("  ", " ")
        )

    def _describe_speed(self, done: int, total: int, now: float) -> str:
        assert self._begun is not None
        began_at, began_with = self._begun
        if now <= began_at or done <= began_with:
            return ""
        speed = (done - began_with) / (now - began_at)
        left = round((total - done) / speed)
        rest = f", {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left" if left else ""
        return f", {describe_size(round(speed))}/s{rest}"


@contextmanager
def showing(
    progress: Callable[[Mapping[str, Any]], None] | bool | None, name: str
) -> Iterator[Callable[[Mapping[str, Any]], None] | None]:
    """Who is told of progress: ``progress`` itself, or by true a line on the terminal, which ends with the block.

    Args:
        progress: what a caller gave.
        name: of the model.
    """
    if not isinstance(progress, bool):
        yield progress
        return
    line = ProgressLine(name) if progress else None
    try:
        yield None if line is None else line.take
    finally:
        if line is not None:
            line.close()


def _bar(share: float, width: int) -> str:
    whole, part = divmod(round(min(share, 1.0) * width * 8), 8)
    return f"|{('█' * whole + _EIGHTHS[part])[:width]:<{width}}|"
