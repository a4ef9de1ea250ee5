"""Reading prompts: in chunks, several of similar length side by side, from where their cached tokens end.

All but a prompt's last token is read here; the last one is the row's first step in a lane. Prompts that are read
together begin together: shorter ones are filled up at their end, where nothing that counts can see it, so that this
needs neither a mask nor a batched cache, and a row is cut to its length when it leaves. Caches that a filler would
change (sliding windows, recurrent states) get prompts of exactly one length.

A prompt is read once, however many jobs have it, and however many begin like it: one that could use what another is
just reading, or what is on its way from the disk, waits for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.adapters import Adapters
from mlxbridge.host.engine.caches.row_caches import Ready
from mlxbridge.host.engine.prefill.grouping import group_of
from mlxbridge.host.engine.prefill.reading import Group, Reading
from mlxbridge.host.engine.prefixes.prefix_cache import PrefixCache
from mlxbridge.host.engine.prefixes.prefix_tree import pack
from mlxbridge.host.engine.queue import TURN
from mlxbridge.host.engine.rows import Job
from mlxbridge.host.engine.shapes import is_new_length_dear, round_rows

MAX_GROUP_ROWS = 16
MAX_GROUP_TOKENS = 16_384
# Copying so many cached tokens is taken to cost a step as much as reading one.
_COPIES_PER_READ = 32
# While there is nothing to do but wait for the disk, so often somebody looks whether a call has come or was cancelled.
_DISK_WAIT_S = 0.002


@dataclass(slots=True)
class Progress:
    """What one step of prefill came to."""

    ready: list[Ready]
    failed: list[tuple[Job, Exception]]
    num_read: int
    num_copied: int = 0


class Prefill:
    """All prompts that are being read."""

    def __init__(
        self,
        model: Any,
        prefixes: PrefixCache,
        *,
        max_rows: int = MAX_GROUP_ROWS,
        adapters: Adapters | None = None,
    ) -> None:
        """Begin with none.

        Args:
            model: what reads.
            prefixes: what need not be read.
            max_rows: prompts that may be read side by side; 1 for a model whose rows are not exact beside others.
            adapters: of the model.
        """
        self._model = model
        self._adapters = adapters
        self._prefixes = prefixes
        self._max_rows = max_rows
        self._found_in = prefixes.version
        self._fresh: list[Reading] = []
        self._groups: list[Group] = []
        self._in_flight: Group | None = None
        self._num_picks = 0
        self._num_readings = 0

    @property
    def is_busy(self) -> bool:
        """Whether there is more to read."""
        return bool(self._fresh or self._groups)

    def has_more_than(self, budget: int) -> bool:
        """Whether a step that may read so many tokens does not end what has been begun."""
        return any(group.num_left and not group.ends_within(budget) for group in self._groups)

    @property
    def num_bytes(self) -> int:
        """What the caches of prompts take that are being read."""
        return sum(group.num_bytes for group in self._groups)

    def add(self, job: Job) -> None:
        """Queue a job."""
        tokens = pack(job.context[:-1])
        begun = [reading for group in self._groups for reading in group.readings]
        for reading in (*self._fresh, *begun):
            if reading.tokens == tokens and reading.scope == job.scope:
                reading.jobs.append(job)
                reading.rank = min(reading.rank, job.rank)
                if reading in begun:
                    job.reuse(reading.length)
                return
        prefix = self._prefixes.find(job.scope, tokens)
        self._num_readings += 1
        self._fresh.append(
            Reading(job.context[:-1], job.scope, tokens, prefix, [job], job.rank, number=self._num_readings)
        )

    def clear(self) -> None:
        """Forget all jobs."""
        for reading in self._fresh:
            self._forget(reading)
        self._fresh, self._groups, self._in_flight = [], [], None

    def step(self, budget: int, *, is_alone: bool) -> Progress:
        """Start reading some tokens, after those that the step before started have been read.

        Args:
            budget: tokens in all.
            is_alone: nothing is being decoded; else one forward pass is made at most.
        """
        progress = Progress([], [], 0)
        if self._in_flight is not None:
            self._wait(self._in_flight, progress)
        self._prefixes.commit()
        for reading in self._fresh:
            if not reading.is_wanted:
                self._forget(reading)
        self._fresh = [reading for reading in self._fresh if reading.is_wanted]
        self._groups = [group for group in self._groups if group.num_left]
        self._find_prefixes()
        self._ask_disk()
        room = budget
        while room > 0 and (group := self._next_group(room, progress)) is not None:
            self._advance(group, room, progress)
            if not is_alone and progress.num_read:
                break
            room = budget - progress.num_read - progress.num_copied // _COPIES_PER_READ
        if is_alone and not (progress.num_read or progress.ready or progress.failed):
            self._prefixes.wait(_DISK_WAIT_S)
        return progress

    def _find_prefixes(self) -> None:
        if self._found_in != self._prefixes.version:
            self._found_in = self._prefixes.version
            for reading in self._fresh:
                reading.prefix = self._prefixes.find(reading.scope, reading.tokens)

    def _ask_disk(self) -> None:
        """Fetch beginnings that are there; once for each prompt, lest two push each other's out of memory for ever."""
        if not self._prefixes.has_disk:
            return
        for reading in self._free():
            if not (reading.has_asked or self._is_coming(reading)):
                reading.has_asked = True
                reading.fetch = self._prefixes.fetch(reading.prefix, reading.tokens, rank=reading.rank)

    def _forget(self, reading: Reading) -> None:
        if reading.fetch is not None:
            self._prefixes.give_up(reading.fetch)

    def _next_group(self, budget: int, progress: Progress) -> Group | None:
        """The oldest prompt of the highest class and the shortest of it take turns, so that neither waits for long.

        At every ``TURN``-th the oldest of all is next.
        """
        turn, self._num_picks = self._num_picks % TURN, self._num_picks + 1

        def order(each: Group | Reading) -> tuple[int, int]:
            rank = 0 if turn == TURN - 2 else each.rank
            return rank, each.num_left if turn % 2 else each.number

        free = self._free()
        begun, lead = min(self._groups, key=order, default=None), min(free, key=order, default=None)
        if lead is None or (begun is not None and order(begun) <= order(lead)):
            return begun
        group = self._begin(free, lead, budget)
        progress.num_copied += sum(reading.prefix.num_tokens for reading in group.readings)
        return group

    def _free(self) -> list[Reading]:
        """Prompts that need not wait for what another is just reading, or is fetched; for a lower class that may take long."""
        trails = [(0, trail) for trail in self._prefixes.pending]
        for group in self._groups:
            rank = group.rank
            trails += [(rank, trail) for trail in group.trails]
        return [
            reading
            for reading in self._fresh
            if not self._is_coming(reading)
            and not any(
                rank <= reading.rank and self._prefixes.is_help(trail, reading.prefix, reading.tokens)
                for rank, trail in trails
            )
        ]

    def _is_coming(self, reading: Reading) -> bool:
        return self._prefixes.is_coming(reading.prefix, reading.tokens, rank=reading.rank)

    def _begin(self, free: list[Reading], lead: Reading, budget: int) -> Group:
        mates = self._mates(free, lead)

        def choose(max_rows: int) -> list[int]:
            return group_of(
                [reading.num_left for reading in mates],
                lead=0,
                can_pad=self._prefixes.can_cut,
                max_rows=max_rows,
                max_tokens=MAX_GROUP_TOKENS,
            )

        chosen = choose(min(self._max_rows, max(1, budget)))
        if is_new_length_dear():
            chosen = choose(round_rows(len(chosen)))
        group = Group(self._model, self._prefixes, [mates[index] for index in chosen])
        self._fresh = [reading for reading in self._fresh if reading not in group.readings]
        self._groups.append(group)
        return group

    def _mates(self, free: list[Reading], lead: Reading) -> list[Reading]:
        """The lead, and all that may be read beside it.

        Those of its class and its adapter, from the same length on, and none that could use another's.
        """
        mates, begin = [lead], (lead.rank, lead.adapter, lead.prefix.num_tokens)
        trails = [self._prefixes.trail(lead.prefix, lead.tokens)]
        for reading in free:
            if reading is lead or (reading.rank, reading.adapter, reading.prefix.num_tokens) != begin:
                continue
            if not any(self._prefixes.is_help(trail, reading.prefix, reading.tokens) for trail in trails):
                mates.append(reading)
                trails.append(self._prefixes.trail(reading.prefix, reading.tokens))
        return mates

    def _advance(self, group: Group, budget: int, progress: Progress) -> None:
        try:
            if group.num_left:
                if self._adapters is not None:
                    self._adapters.activate(group.readings[0].adapter)
                progress.num_read += group.read(budget)
                self._in_flight = group
            if not group.num_left:
                progress.ready += group.finish()
                self._groups.remove(group)
                self._in_flight = None  # the row's own steps follow, and would copy what somebody else holds
        except Exception as exc:
            self._give_up(group, exc, progress)

    def _wait(self, group: Group, progress: Progress) -> None:
        try:
            mx.eval(group.states())
            self._in_flight = None
        except Exception as exc:
            self._give_up(group, exc, progress)

    def _give_up(self, group: Group, exc: Exception, progress: Progress) -> None:
        self._groups.remove(group)
        self._in_flight = None
        if len(group.readings) == 1:
            progress.failed += [(job, exc) for job in group.readings[0].jobs if not job.ended]
            return
        # One of them may be to blame: the others get another try, each by itself.
        for reading in group.readings:
            if reading.is_wanted:
                reading.prefix = self._prefixes.find(reading.scope, reading.tokens)
                self._groups.append(Group(self._model, self._prefixes, [reading]))
