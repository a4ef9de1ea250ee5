"""A machine with more memory than any test's models need, or with as much as the test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlxbridge.host.models.machine import Machine
from mlxbridge.host.models.memory import Memory

GIB = 1 << 30
MACHINE = Machine(chip="Test Chip", memory_bytes=64 * GIB, usable_bytes=48 * GIB)


async def survey() -> Machine:
    return MACHINE


async def locate(hub_ids: Sequence[str]) -> Mapping[str, Path]:
    return {}


def plenty(budget_bytes: int | None = None, **others: Any) -> Memory:
    """Memory that asks no process what there is."""
    return Memory(budget_bytes, **{"survey": survey, "locate": locate, **others})
