"""Short processes of the front's: each does one thing that needs mlx, or may take long, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlxbridge.errors import InternalError, from_wire
from mlxbridge.host.models.store import ModelSource
from mlxbridge.logs import log_words

Progress = Callable[[Mapping[str, Any]], object]


async def fetch_files(source: ModelSource, progress: Progress) -> ModelSource:
    """The same source with its files on this machine, downloaded if need be.

    Raises:
        ModelNotFound, ModelLoadFailed: see ``store.fetch``.
        OSError: the system starts no process.
    """
    if source.folder is not None:
        return source
    return ModelSource.from_wire(await run_errand("fetch", source.to_wire(), progress))


async def locate_files(hub_ids: Sequence[str]) -> dict[str, Path]:
    """Folders of the hub's models that are on this machine, and complete.

    Raises:
        BridgeError, OSError: it cannot be told.
    """
    found = await run_errand("find", {"names": list(hub_ids)})
    return {name: Path(folder) for name, folder in found["folders"].items()}


async def run_errand(
    name: str, params: Mapping[str, Any], progress: Progress = lambda item: None
) -> Mapping[str, Any]:
    """What came of it. Cancelling it ends the process.

    Args:
        name: one of ``worker.errand.ERRANDS``.
        params: plain values that JSON has.
        progress: takes what it tells meanwhile.

    Raises:
        BridgeError: what it raised; InternalError if it ended without a word.
        OSError: the system starts no process.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # what lies in the current folder must not be taken for a library
        "-m",
        "mlxbridge.host.worker.errand",
        name,
        "--front",
        str(os.getpid()),
        *log_words(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps(params).encode() + b"\n")
        while line := await process.stdout.readline():
            answer = json.loads(line)
            if "result" in answer:
                result: Mapping[str, Any] = answer["result"]
                return result
            if "error" in answer:
                raise from_wire(answer["error"])
            progress(answer["progress"])
        raise InternalError(f"{name} ended with status {await process.wait()} and without an answer")
    finally:
        process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()  # it has said all there is
        await process.wait()
