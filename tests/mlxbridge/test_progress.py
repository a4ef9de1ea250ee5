"""The line of a download, on a terminal and elsewhere."""

from __future__ import annotations

import os
import pty
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mlxbridge.progress import ProgressLine, showing

MIB = 1 << 20


class Terminal:
    """A real one, of 80 columns, as this process's stderr."""

    def __init__(self) -> None:
        self._outer, self._inner = pty.openpty()
        self.stderr = os.fdopen(self._inner, "w", encoding="utf-8")

    def said(self) -> list[str]:
        """What was written on each line, one after the other."""
        print("END", end="", file=self.stderr, flush=True)
        data = b""
        while not data.endswith(b"END"):
            data += os.read(self._outer, 1 << 16)
        text = data.decode().removesuffix("END")
        return [part for part in text.replace("\r\n", "\n").replace("\r\033[K", "\0").split("\0") if part]

    def close(self) -> None:
        self.stderr.close()
        os.close(self._outer)


@contextmanager
def terminal(columns: int = 80) -> Iterator[Terminal]:
    """No fixture: between those and a test pytest puts its own stderr back."""
    made = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", made.stderr)
        patch.setenv("COLUMNS", str(columns))
        yield made
    made.close()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_line_tells_share_speed_and_what_is_left() -> None:
    clock = Clock()
    with terminal() as shown:
        line = ProgressLine("org/demo", clock)
        for second in range(5):
            clock.now = second
            line.show(second * 25 * MIB, 100 * MIB)
        said = shown.said()
    assert [part.split("|")[0] for part in said] == [
        f"org/demo: {share:>3}% " for share in (0, 25, 50, 75, 100)
    ]
    assert "| 50.0 MB of 100.0 MB, 25.0 MB/s, 0:00:02 left" in said[2]
    assert said[4].endswith("| 100.0 MB of 100.0 MB, 25.0 MB/s\n")
    assert all(len(part.rstrip("\n")) < 80 for part in said)
    bars = [part.split("|")[1] for part in said]
    assert len({len(bar) for bar in bars[1:4]}) == 1
    assert bars[0].strip() == "" and set(bars[4]) == {"█"}


def test_terminal_is_not_written_to_all_the_time() -> None:
    clock = Clock()
    with terminal() as shown:
        line = ProgressLine("org/demo", clock)
        for number in range(1001):
            clock.now = number / 1000
            line.show(number, 1000)
        assert len(shown.said()) <= 12


def test_narrow_terminal_has_no_bar() -> None:
    with terminal(columns=40) as shown:
        ProgressLine("org/demo").show(MIB, 2 * MIB)
        assert shown.said() == ["org/demo: 50% 1.0 MB of 2.0 MB"]


def test_stages_are_told_and_the_line_ends() -> None:
    with terminal() as shown:
        with showing(True, "demo") as tell:
            assert tell is not None
            tell({"stage": "waiting"})
            tell({"stage": "loading"})
        assert shown.said() == ["demo: waiting", "demo: loading\n"]


def test_nothing_is_written_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with showing(True, "demo") as tell:
        assert tell is not None
        tell({"stage": "fetching", "bytes_done": 1, "bytes_total": 2})
        tell({"stage": "loading"})
    assert capsys.readouterr().err == ""


def test_nobody_is_told_or_the_caller_is() -> None:
    told: list[object] = []
    with showing(told.append, "demo") as tell:
        assert tell == told.append
    for progress in (None, False):
        with showing(progress, "demo") as tell:
            assert tell is None
