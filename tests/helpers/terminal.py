"""The command line at a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

CTRL_C, CTRL_D = "\x03", "\x04"
WITHOUT, WITH = "sys.modules['prompt_toolkit'] = None", "pass"
CHILD = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C is a signal
{toolkit}
from mlxbridge.cli import main
main()
"""


class Terminal:
    """A command, ``mlxbridge`` with arguments, at a terminal of its own.

    Args:
        state: where it keeps what it remembers.
        toolkit: WITH prompt-toolkit, if it is installed, or WITHOUT.
    """

    def __init__(self, *arguments: str, state: Path, toolkit: str = WITHOUT) -> None:
        self._outer, inner = pty.openpty()
        self._said = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD.format(toolkit=toolkit), *arguments],
            env={
                **os.environ,
                "TERM": "xterm",
                "XDG_STATE_HOME": str(state),
                "PROMPT_TOOLKIT_NO_CPR": "1",
            },
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)

    def type(self, text: str, awaited: str = "> ") -> str:
        """Type something; what is said then, up to what is waited for."""
        os.write(self._outer, text.encode())
        return self.wait_for(awaited)

    def wait_for(self, text: str) -> str:
        deadline = time.monotonic() + 60
        while text not in self._said:
            ready, _, _ = select.select([self._outer], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no {text!r} after {self._said!r}"
            self._said += os.read(self._outer, 1 << 16).decode(errors="replace").replace("\r", "")
        end = self._said.index(text) + len(text)
        told, self._said = self._said[:end], self._said[end:]
        return told

    def interrupt(self, awaited: str) -> str:
        """Ctrl-C, until something is said: one that comes just before readline waits for a key is seen at the next key."""
        for _ in range(30):
            os.write(self._outer, CTRL_C.encode())
            if select.select([self._outer], [], [], 2)[0]:
                break
        return self.wait_for(awaited)

    def leave(self, keys: str = CTRL_D) -> int:
        """Type the last keys; the exit status."""
        os.write(self._outer, keys.encode())
        with contextlib.suppress(OSError):  # the terminal's end
            while os.read(self._outer, 1 << 16):
                pass
        os.close(self._outer)
        return self.process.wait(60)

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
