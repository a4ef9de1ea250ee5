"""Reading prompts: in chunks, several of similar length side by side, into mlx_lm's plain caches.

All but a prompt's last token is read here; the last one is the row's first step in a lane. Prompts that are read
together begin together: shorter ones are filled up at their end, where nothing that counts can see it, so that this
needs neither a mask nor a batched cache, and a row's length is known when it leaves. Caches that a filler would
change (sliding windows, recurrent states) get prompts of exactly one length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlxbridge.host.engine.caches import Source, can_be_padded, leaves, nbytes
from mlxbridge.host.engine.decode import Ready
from mlxbridge.host.engine.rows import Job
from mlxbridge.host.engine.scheduler import group_of

MAX_GROUP_ROWS = 16
MAX_GROUP_TOKENS = 16_384


class Group:
    """Prompts that are read side by side."""

    def __init__(self, model: Any, jobs: list[Job]) -> None:
        self.jobs = jobs
        self._model = model
        self._caches = make_prompt_cache(model)
        self._width = max(len(job.context) for job in jobs) - 1
        self._num_read = 0

    @property
    def num_left(self) -> int:
        """Tokens to read, fillers among them; less once all jobs have ended: none."""
        if all(job.ended for job in self.jobs):
            return 0
        return len(self.jobs) * (self._width - self._num_read)

    def read(self, budget: int) -> int:
        """Start reading at most so many tokens (but at least one a prompt); returns how many."""
        start = self._num_read
        self._num_read = end = min(self._width, start + max(1, budget // len(self.jobs)))
        columns = [job.context[start : min(end, len(job.context) - 1)] for job in self.jobs]
        chunk = mx.array([column + [0] * (end - start - len(column)) for column in columns])
        self._model(chunk, cache=self._caches)
        mx.async_eval(self.states())  # type: ignore[no-untyped-call]
        return len(self.jobs) * (end - start)

    @property
    def num_bytes(self) -> int:
        """What the caches take."""
        return nbytes(self._caches)

    def states(self) -> list[mx.array]:
        """What has to be computed for the caches to be complete."""
        return [part for item in leaves(self._caches) for part in _arrays(item.state)]

    def finish(self) -> list[Ready]:
        """The rows, once all is read; without those that have ended."""
        return [
            Ready(job, Source(self._caches, index, len(job.context) - 1))
            for index, job in enumerate(self.jobs)
            if not job.ended
        ]


@dataclass(slots=True)
class Progress:
    """What one step of prefill came to."""

    ready: list[Ready]
    failed: list[tuple[Job, Exception]]
    num_read: int


class Prefill:
    """All prompts that are being read."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._can_pad = can_be_padded(make_prompt_cache(model))
        self._fresh: list[Job] = []
        self._groups: list[Group] = []
        self._in_flight: Group | None = None
        self._oldest_is_next = True

    @property
    def num_bytes(self) -> int:
        """What the caches of prompts take that are being read."""
        return sum(group.num_bytes for group in self._groups)

    def add(self, job: Job) -> None:
        """Queue a job."""
        self._fresh.append(job)

    def clear(self) -> None:
        """Forget all jobs."""
        self._fresh, self._groups, self._in_flight = [], [], None

    def step(self, budget: int, *, is_alone: bool) -> Progress:
        """Start reading some tokens, after those that the step before started have been read.

        Args:
            budget: tokens in all.
            is_alone: nothing is being decoded; else one forward pass is made at most.
        """
        progress = Progress([], [], 0)
        if self._in_flight is not None:
            mx.eval(self._in_flight.states())
            self._in_flight = None
        self._fresh = [job for job in self._fresh if not job.ended]
        self._groups = [group for group in self._groups if group.num_left]
        while progress.num_read < budget and (group := self._next_group(budget)) is not None:
            self._advance(group, budget - progress.num_read, progress)
            if not is_alone and progress.num_read:
                break
        return progress

    def _next_group(self, budget: int) -> Group | None:
        """The oldest prompt and the shortest take turns, so that neither waits for the other for long."""
        oldest, self._oldest_is_next = self._oldest_is_next, not self._oldest_is_next
        lengths = [len(job.context) - 1 for job in self._fresh]
        begun = min(self._groups, key=lambda group: group.num_left, default=None)
        if oldest and self._groups:
            return self._groups[0]
        if begun is not None and (not lengths or begun.num_left <= min(lengths)):
            return begun
        if not lengths:
            return None
        chosen = group_of(
            lengths,
            lead=0 if oldest else lengths.index(min(lengths)),
            can_pad=self._can_pad,
            max_rows=min(MAX_GROUP_ROWS, max(1, budget)),
            max_tokens=MAX_GROUP_TOKENS,
        )
        group = Group(self._model, [self._fresh[index] for index in chosen])
        self._fresh = [job for index, job in enumerate(self._fresh) if index not in set(chosen)]
        self._groups.append(group)
        return group

    def _advance(self, group: Group, budget: int, progress: Progress) -> None:
        try:
            if group.num_left:
                progress.num_read += group.read(budget)
                self._in_flight = group
            if not group.num_left:
                progress.ready += group.finish()
                self._groups.remove(group)
                self._in_flight = None  # the row's own steps follow, and would copy what somebody else holds
        except Exception as exc:
            # One of them may be to blame: the others get another try, each by itself.
            self._groups.remove(group)
            self._in_flight = None
            if len(group.jobs) == 1:
                progress.failed.append((group.jobs[0], exc))
            else:
                self._groups += [Group(self._model, [job]) for job in group.jobs if not job.ended]


def _arrays(state: Any) -> list[mx.array]:
    if isinstance(state, mx.array):
        return [state]
    if isinstance(state, list | tuple):
        return [array for part in state for array in _arrays(part)]
    return []
