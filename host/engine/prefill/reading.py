"""Prompts that are read side by side, into mlx_lm's plain caches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.caches.caches import Source, leaves, nbytes, reserve, unreserve
from mlxbridge.host.engine.caches.row_caches import Ready
from mlxbridge.host.engine.prefixes.fetch import Fetch
from mlxbridge.host.engine.prefixes.prefix_cache import Prefix, PrefixCache
from mlxbridge.host.engine.rows import Job
from mlxbridge.host.engine.shapes import capacity_for, is_new_length_dear, round_end, round_up


@dataclass(slots=True, eq=False)
class Reading:
    """A prompt but for its last token, read once for all jobs that have it.

    Attributes:
        token_ids: what is to be in the caches.
        tokens: the same, packed.
        prefix: what need not be read.
        rank: the highest class of those who have waited for it.
        number: of arrival.
        has_asked: whether the disk has been asked for its beginning.
        fetch: of its beginning from the disk.
    """

    token_ids: list[int]
    scope: str
    tokens: bytes
    prefix: Prefix
    jobs: list[Job]
    rank: int = 0
    number: int = 0
    has_asked: bool = False
    fetch: Fetch | None = None

    @property
    def adapter(self) -> str | None:
        """Which one is active in the model when it is read."""
        return self.jobs[0].adapter

    @property
    def is_wanted(self) -> bool:
        """Whether a job waits for it."""
        return not all(job.ended for job in self.jobs)

    @property
    def length(self) -> int:
        """Tokens to have in the caches."""
        return len(self.token_ids)

    @property
    def num_left(self) -> int:
        """Tokens that have to be read."""
        return self.length - self.prefix.num_tokens

    def begin(self) -> None:
        """Note for whom it is read: the first job that still waits; the others get all of it for nothing."""
        num_tokens = self.prefix.num_tokens
        for job in self.jobs:
            if not job.ended:
                job.reuse(num_tokens)
                num_tokens = self.length


class Group:
    """Prompts that are read side by side, each from the same length of cached tokens on.

    Attributes:
        number: of arrival, the oldest prompt's.
    """

    def __init__(self, model: Any, prefixes: PrefixCache, readings: list[Reading]) -> None:
        self.readings = readings
        self.trails = [prefixes.trail(reading.prefix, reading.tokens) for reading in readings]
        self._model = model
        self._prefixes = prefixes
        self._caches = prefixes.build([reading.prefix for reading in readings])
        self._is_rounded = prefixes.can_cut and is_new_length_dear()
        width = max(reading.length for reading in readings)
        self._width = round_up(width) if self._is_rounded else width
        self._num_read = readings[0].prefix.num_tokens
        self.number = min(reading.number for reading in readings)
        for reading in readings:
            reading.begin()

    @property
    def rank(self) -> int:
        """The highest class of those who have waited for one of the prompts."""
        return min(reading.rank for reading in self.readings)

    @property
    def num_left(self) -> int:
        """Tokens to read, fillers among them; once no job waits any more, none."""
        if not any(reading.is_wanted for reading in self.readings):
            return 0
        return len(self.readings) * (self._width - self._num_read)

    @property
    def num_bytes(self) -> int:
        """What the caches take."""
        return nbytes(self._caches)

    def read(self, budget: int) -> int:
        """Start reading about so many tokens (but at least one a prompt); returns how many."""
        start, num_rows = self._num_read, len(self.readings)
        self._num_read = end = self._next_stop(self._end_of_piece(budget))
        columns = [reading.token_ids[start:end] for reading in self.readings]
        chunk = mx.array([column + [0] * (end - start - len(column)) for column in columns])
        reserve(self._caches, end, capacity_for(end) if self._is_rounded else self._width)
        self._model(chunk, cache=self._caches)
        mx.async_eval(self.states())  # type: ignore[no-untyped-call]
        self._prefixes.cut(self._caches, end, self.trails)
        return num_rows * (end - start)

    def ends_within(self, budget: int) -> bool:
        """Whether a piece of about so many tokens is the last one."""
        return self._next_stop(self._end_of_piece(budget)) == self._width

    def states(self) -> list[mx.array]:
        """What has to be computed for the caches to be complete."""
        return [part for item in leaves(self._caches) for part in _arrays(item.state)]

    def finish(self) -> list[Ready]:
        """The rows, once all is read; without those that have ended."""
        unreserve(self._caches)
        return [
            Ready(job, Source(self._caches, index, reading.length))
            for index, reading in enumerate(self.readings)
            for job in reading.jobs
            if not job.ended
        ]

    def _end_of_piece(self, budget: int) -> int:
        num_rows = len(self.readings)
        if self._is_rounded:
            return round_end(self._num_read, budget, num_rows)
        return self._num_read + max(1, budget // num_rows)

    def _next_stop(self, end: int) -> int:
        stops = (stop for trail in self.trails for stop in trail.stops if stop > self._num_read)
        return min(end, self._width, min(stops, default=end))


def _arrays(state: Any) -> Iterable[mx.array]:
    if isinstance(state, mx.array):
        yield state
    elif isinstance(state, list | tuple):
        for part in state:
            yield from _arrays(part)
