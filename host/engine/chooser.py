"""From the logits of a lane's rows to their next tokens; all of it stays on the device."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from mlxbridge.host.engine.penalties import Bias, LateEnd, Penalties
from mlxbridge.host.engine.rows import Job
from mlxbridge.host.engine.sampler import Sampler
from mlxbridge.host.engine.settings import GREEDY


class Chooser:
    """Chooses tokens for a fixed set of rows; made anew when rows come or go.

    What no row uses costs nothing.
    """

    def __init__(self, jobs: Sequence[Job | None]) -> None:
        """Take the rows by place; where there is None, any token will do."""
        rows = [GREEDY if job is None else job.settings for job in jobs]
        positions = [0 if job is None else job.num_drawn for job in jobs]

        def recent(place: int, size: int) -> list[int]:
            job = jobs[place]
            return [] if job is None else job.recent(size)

        self._bias = Bias(rows) if any(map(Bias.is_used, rows)) else None
        self._penalties = Penalties(rows, recent) if any(map(Penalties.is_used, rows)) else None
        self._late_end = LateEnd(rows, positions) if any(map(LateEnd.is_used, rows, positions)) else None
        self._sampler = Sampler(rows, positions)

    def choose(self, logits: mx.array, last: mx.array) -> mx.array:
        """Choose every row's next token, and move on by one position.

        Args:
            logits: float array (rows, vocabulary size), which may be changed.
            last: uint32 array (rows,), the tokens that the logits follow.

        Returns:
            uint32 array (rows,), not evaluated.
        """
        if self._bias is not None:
            logits = self._bias.apply(logits)
        if self._penalties is not None:
            logits = self._penalties.apply(logits, last)
        if self._late_end is not None:
            logits = self._late_end.apply(logits)
            if self._late_end.is_over:
                self._late_end = None
        return self._sampler.draw(logits)
