"""What models run on, and how much memory there is; asked of a process that may import mlx."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from mlxbridge.errors import InternalError
from mlxbridge.host.models.errand import run_errand

# A driver that has just been installed may take its time; one that hangs must not keep models from being loaded.
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A chip and its memory.

    Attributes:
        chip: its name, such as "Apple M4 Max".
        memory_bytes: of the machine, or of a card that has memory of its own.
        usable_bytes: what weights and caches of all models may take of it.
    """

    chip: str
    memory_bytes: int
    usable_bytes: int


async def survey_machine() -> Machine:
    """Ask a short process.

    Raises:
        BridgeError, OSError: it does not say; that mlx is not installed, say.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S):
            found = await run_errand("machine", {})
    except TimeoutError as error:
        raise InternalError(f"the machine did not say what it has within {TIMEOUT_S:.0f} s") from error
    return Machine(chip=found["chip"], memory_bytes=found["memory_bytes"], usable_bytes=found["usable_bytes"])
