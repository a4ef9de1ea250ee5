"""Rows that are decoded together, one forward pass a step, always one step ahead of what the host has read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.caches import Source, nbytes
from mlxbridge.host.engine.chooser import Chooser, Drawn
from mlxbridge.host.engine.logprobs import Likelihoods
from mlxbridge.host.engine.row_caches import RowCaches
from mlxbridge.host.engine.rows import Job

# Given up places are computed along until they are this share of all: a departure copies all that stays.
_MAX_GIVEN_UP = 1 / 8


# Told of a job that has ended, while its row is still at this place.
Leave = Callable[[Job, RowCaches, int], None]

# A token that has been read, with what is known of it if its request asked.
Draw = tuple[Job, int, Likelihoods | None]


@dataclass(slots=True)
class Ready:
    """A job whose context, but for its last token, is in plain caches."""

    job: Job
    source: Source


class Lane:
    """A batch of rows, from their prompt's last token to their answer's last one.

    A step is ``settle``, ``join``, ``queue``, ``read``. ``queue`` starts the computation of every row's next token
    from the token before it, which is still on the device; ``read`` then waits for that one only. Where a row is
    constrained, what it may draw depends on the token before: ``queue`` then starts the forward pass alone, and ``read``,
    once it has that token, the choice.
    """

    def __init__(self, model: Any, *, can_grow: bool, leave: Leave) -> None:
        """Start empty; a lane that cannot grow holds one row, in the model's own plain caches."""
        self._model = model
        self._leave = leave
        self._can_grow = can_grow
        self._caches = RowCaches()
        # By place; None where a row has ended.
        self._jobs: list[Job | None] = []
        # uint32 (places,): the next step's input.
        self._tokens: mx.array = mx.array([], dtype=mx.uint32)
        # Tokens that were drawn, with the jobs by place at that time.
        self._unread: tuple[Drawn, list[Job | None]] | None = None
        self._read_next: tuple[Drawn, list[Job | None]] | None = None
        self._chooser: Chooser | None = None
        # What the next tokens are to be chosen from, where that has to wait.
        self._logits: mx.array | None = None

    @property
    def jobs(self) -> list[Job]:
        """Of the rows that have not ended."""
        return [job for job in self._jobs if job is not None and not job.ended]

    @property
    def num_rows(self) -> int:
        """Rows that have not ended."""
        return sum(job is not None for job in self._jobs)

    @property
    def end(self) -> int:
        """Places a row takes in the buffers: the longest row's length."""
        return self._caches.layout.end

    @property
    def num_places(self) -> int:
        """Rows that are computed, given up places among them."""
        return len(self._jobs)

    @property
    def num_left(self) -> int:
        """Tokens that may still be drawn for the row with the most."""
        return max((job.num_left for job in self._jobs if job is not None), default=0)

    @property
    def num_bytes(self) -> int:
        """What the rows' caches take."""
        return nbytes(self._caches.layers)

    def settle(self, *, num_joining: int = 0, max_given_up: float = _MAX_GIVEN_UP) -> None:
        """Give up the places of jobs that ended; move the others together if too many are not needed.

        Args:
            num_joining: rows that will take given up places in this step.
            max_given_up: the share of all places that need not be given back.
        """
        for place, job in enumerate(self._jobs):
            if job is not None and job.ended:
                self._leave(job, self._caches, place)
                self._jobs[place] = None
                self._caches.give_up(place)
        num_idle = len(self._jobs) - self.num_rows - num_joining
        if self.num_rows and num_idle > len(self._jobs) * max_given_up:
            self._take([place for place, job in enumerate(self._jobs) if job is not None])

    def join(self, rows: Sequence[Ready]) -> None:
        """Let rows take part from the next ``queue`` on."""
        assert self._can_grow or not self._jobs and len(rows) == 1
        free = [place for place, job in enumerate(self._jobs) if job is None]
        first_new = len(self._jobs)
        places = [*free, *range(first_new, first_new + len(rows))][: len(rows)]
        if self._can_grow:
            self._caches.place([row.source for row in rows], places)
        else:
            self._caches.adopt(rows[0].source)
        num_new = max(0, places[-1] + 1 - first_new)
        self._jobs += [None] * num_new
        values, is_new = [0] * len(self._jobs), [False] * len(self._jobs)
        for row, place in zip(rows, places, strict=True):
            self._jobs[place] = row.job
            if row.job.constraint is not None:
                row.job.constraint.begin(row.job.answer)
            values[place], is_new[place] = row.job.context[-1], True
        before = mx.concatenate([self._tokens, mx.zeros(num_new, dtype=mx.uint32)])
        self._tokens = mx.where(mx.array(is_new), mx.array(values, dtype=mx.uint32), before)
        self._chooser = None

    def queue(self) -> None:
        """Start computing the next token of every row, unless all have got their last."""
        self._read_next, self._unread = self._unread, None
        if self._chooser is None:
            self._chooser = Chooser(self._jobs)
        if not any(job is not None and job.num_left > 0 for job in self._jobs):
            return
        logits = self._forward()
        if self._chooser.masks is None:
            self._choose(self._chooser, logits)
        else:
            mx.async_eval(logits)  # type: ignore[no-untyped-call]
            self._logits = logits

    def read(self) -> list[Draw]:
        """Wait for the tokens that the step before started; one copy for all rows."""
        drawn = self._read_drawn()
        chooser = self._chooser
        if chooser is not None and chooser.masks is not None:
            for job, token, _ in drawn:
                if job.constraint is not None:
                    job.constraint.take(token)
            chooser.masks.compute()
            logits, self._logits = self._logits, None
            if logits is not None:
                self._choose(chooser, logits)
        return drawn

    def _read_drawn(self) -> list[Draw]:
        read, self._read_next = self._read_next, None
        if read is None:
            return []
        drawn, jobs = read
        if not any(job is not None and not job.ended for job in jobs):
            return []
        tokens, likelihoods = drawn.read()
        return [
            (job, token, likelihoods.get(place) if likelihoods else None)
            for place, (job, token) in enumerate(zip(jobs, tokens, strict=True))
            if job is not None and not job.ended
        ]

    def take_out(self) -> tuple[Draw, Source]:
        """Wait for the token that the first ``queue`` started in a lane that cannot grow; it, and the row's caches."""
        assert not self._can_grow and self._read_next is None
        if self._unread is None:
            self.read()  # a constrained row's choice has not been started
        self._read_next, self._unread = self._unread, None
        (drawn,) = self.read()
        return drawn, Source(self._caches.row(0), 0, self._caches.length(0))

    def _forward(self) -> mx.array:
        """Every row's next logits (places, vocabulary size), not evaluated."""
        logits: mx.array = self._model(self._tokens[:, None], cache=self._caches.layers)
        self._caches.advance()
        return logits[:, -1, :]

    def _choose(self, chooser: Chooser, logits: mx.array) -> None:
        """Start the choice of every row's next token."""
        drawn = chooser.choose(logits, self._tokens)
        drawn.start()
        self._tokens, self._unread = drawn.tokens, (drawn, list(self._jobs))
        for job in self._jobs:
            if job is not None:
                job.num_drawn += 1

    def _take(self, places: list[int]) -> None:
        self._caches.take(places)
        self._jobs = [self._jobs[place] for place in places]
        self._tokens = self._tokens[mx.array(places)]
        self._chooser = None
