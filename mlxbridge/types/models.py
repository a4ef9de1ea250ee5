"""Models and the host that has them: what they are doing now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Progress = Callable[[Mapping[str, Any]], None]
"""Takes each progress report of a load, such as ``{"stage": "loading"}``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model the host serves, and what it is doing now.

    ``state`` is "unloaded", "loading", "waiting" (for memory), "ready", "draining" (it makes way for others), "restarting",
    "unloading" or "failed"; ``details`` has aliases, memory and how long it stays loaded, architecture, parameters,
    context_length and the like once it was loaded, and the reason when it failed.
    """

    name: str
    state: str
    source: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStatus:
    """What models have, in bytes; None where the host does not know.

    Attributes:
        total: of the machine, or of a card that has memory of its own.
        budget: that models may take together.
        reserved: that those that are loaded may take.
        used: what they have taken, as their workers measure it.
    """

    total: int | None = None
    budget: int | None = None
    reserved: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The host at a glance."""

    software: str
    chip: str
    memory: MemoryStatus
    uptime_seconds: float
    connections: int
    calls: int
    models: list[ModelInfo]
