"""``python -m bench.native.host serve …``: ``mlxbridge-host``, but its worker is ``bench.native.beside``."""

from __future__ import annotations

import asyncio
import os
import sys

from mlxbridge.host import cli
from mlxbridge.host.models import worker


async def _spawn(fd: int) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "bench.native.beside", "--fd", str(fd), "--front", str(os.getpid())]
    return await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, pass_fds=[fd])


if __name__ == "__main__":
    worker.spawn = _spawn  # type: ignore[attr-defined]
    cli.main()
