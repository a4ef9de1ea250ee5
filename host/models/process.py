"""A worker's process: how it is started, waited for, and what its end tells."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

from mlxbridge.logs import log_words

STOP_TIMEOUT_S = 2.0


async def spawn(fd: int) -> asyncio.subprocess.Process:
    """Start a worker that speaks over a socket of ours, by its descriptor.

    Raises:
        OSError: the system refuses.
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # what lies in the current folder must not be taken for a library
        "-m",
        "mlxbridge.host.worker",
        "--fd",
        str(fd),
        "--front",
        str(os.getpid()),
        *log_words(),
        stdin=asyncio.subprocess.DEVNULL,
        pass_fds=[fd],
    )


async def reap(process: asyncio.subprocess.Process) -> bool:
    """Wait for a process that has lost its socket, and so ends unless it is stuck; whether it ended by itself."""
    try:
        # asyncio.wait_for loses a cancel that comes with the end (before Python 3.12).
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        return False
    return True


def how_it_ended(process: asyncio.subprocess.Process, fault: str) -> str:
    """The end of a process that ended by itself, in words.

    Args:
        fault: what ended its link, in brackets, if it was not the process's end.
    """
    code = process.returncode or 0
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"exited with status {code}{fault}"
