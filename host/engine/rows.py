"""A row of the batch: what the model needs to know of a call."""

from __future__ import annotations

from dataclasses import dataclass

from mlxbridge.host.engine.sampler import GREEDY, Settings


@dataclass(slots=True, eq=False)
class Job:
    """One answer in the making, from its prompt on.

    Attributes:
        prompt: token ids, at least one.
        max_tokens: tokens that may be drawn.
        num_drawn: tokens whose computation was queued; the last one may not have been read.
        ended: no more tokens are wanted; its place is given up at the start of the next step.
    """

    prompt: list[int]
    max_tokens: int
    settings: Settings = GREEDY
    num_drawn: int = 0
    ended: bool = False
