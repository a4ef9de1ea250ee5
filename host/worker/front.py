"""The process that started this one."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1


def die_with(front: int) -> None:
    """End when the front does, whatever this process is at: while it loads it does not look at its socket.

    Only Linux can promise that; elsewhere the closed socket is noticed once the model is loaded.

    Args:
        front: its process id; where it has ended already, this process exits.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != front:  # it died before that took effect
        sys.exit("the front has gone")


def die_at_end_of(fd: int) -> None:
    """End when nobody can write to a pipe any more that only the front writes to; that is its end on every system.

    Args:
        fd: of the pipe, from which nothing more is read.
    """

    def wait() -> None:
        while os.read(fd, 1):
            pass
        os._exit(1)  # whatever the main thread is at

    threading.Thread(target=wait, daemon=True).start()
