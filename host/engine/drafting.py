"""What a lane's rows may say next: who drafts it for which row, how much, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.acceptance import Acceptance, Prospect
from mlxbridge.host.engine.caches import Source
from mlxbridge.host.engine.draft_rows import DraftRows
from mlxbridge.host.engine.payoff import Meter, Payoff, Way
from mlxbridge.host.engine.rehearsal import Rehearsal
from mlxbridge.host.engine.rows import Job
from mlxbridge.host.engine.speculation import Speculator


@dataclass(slots=True)
class Drafts:
    """Tokens that may come behind those that a lane's rows have.

    Attributes:
        way: the width of the pass over them, and whether the draft model drafted.
        tokens: uint32 array (places, width - 1), not evaluated; behind a row's draft there are fillers.
    """

    way: Way
    tokens: mx.array
    _by_place: list[list[int]]
    # uint32 (rows of the draft model, width - 1); and by place its row there, and how many tokens of it are wanted.
    _by_model: mx.array | None = None
    _whose: dict[int, tuple[int, int]] = field(default_factory=dict)

    def read(self) -> list[list[int]]:
        """The drafts by place, without fillers; waits for the draft model."""
        if self._by_model is not None:
            drafted: Any = self._by_model.tolist()
            for place, (row, most) in self._whose.items():
                self._by_place[place] = drafted[row][:most]
            self._by_model = None
        return self._by_place


class _Row:
    """A row that may draft; looked up, unless there is nothing to look it up in: then the draft model does it."""

    def __init__(self, job: Job, most: int, usual: Acceptance, rehearsal: Rehearsal | None) -> None:
        self.job = job
        self.rehearsal = rehearsal
        self._most = most
        self._acceptance = usual.of_row()
        self._usual = usual

    @property
    def most(self) -> int:
        """Tokens that may be drafted; the pass over them draws one more."""
        return 0 if self.job.ended else max(0, min(self._most, self.job.num_left - 1))

    def prospect(self, most: int, *, is_there: bool) -> Prospect:
        """What is to be expected of a draft of so many tokens."""
        return Prospect(self._acceptance.rate, 1.0 if is_there else self._acceptance.presence, most)

    def record(self, num_drafted: int, num_accepted: int) -> None:
        self._acceptance.record(num_drafted, num_accepted)
        self._usual.record(num_drafted, num_accepted)


class Drafting:
    """The drafts of a lane."""

    def __init__(self, shared: Speculator) -> None:
        self._shared = shared
        self._rows: dict[Job, _Row] = {}
        self._payoff = Payoff(shared.costs)
        self._meter = Meter(shared.costs)
        self._followed = None if shared.model is None else DraftRows(shared.model)

    def __len__(self) -> int:
        """Rows that may draft."""
        return len(self._rows)

    @property
    def num_bytes(self) -> int:
        """What the draft model's caches of these rows take."""
        return 0 if self._followed is None else self._followed.num_bytes

    def add(self, job: Job) -> None:
        """A row has joined the lane."""
        if job.drafts is None:
            return
        usual = self._shared.usual[job.drafts.by_model]
        rehearsal = None if job.drafts.by_model else Rehearsal(job.context)
        self._rows[job] = _Row(job, job.drafts.most, usual, rehearsal)
        if rehearsal is None:
            assert self._followed is not None
            self._followed.follow(job)

    def remove(self, job: Job) -> None:
        """A row leaves the lane, or drafts no more."""
        row = self._rows.pop(job, None)
        if row is not None and row.rehearsal is None:
            assert self._followed is not None
            self._followed.leave(job)

    def clear(self) -> None:
        """Draft for none of these rows any more."""
        self._rows = {}
        self._stop_following()

    def join(self, done: Mapping[Job, Source | None]) -> None:
        """The draft model has read these contexts, or could not; some may be of this lane's rows."""
        own = {job: source for job, source in done.items() if job in self._rows}
        for job in [job for job, source in own.items() if source is None]:
            self.remove(job)
        if ready := {job: source for job, source in own.items() if source is not None}:
            assert self._followed is not None
            self._followed.join(ready)

    def decide(self, num_places: int) -> bool:
        """Whether the next pass is to be over drafted tokens, so that all that was drawn has to be read before."""
        if not self._rows:
            return False
        by_model = any(row.rehearsal is None for row in self._rows.values())
        if not self._payoff.decide(num_places, self._prospects, by_model=by_model):
            return False
        if self._followed is not None:
            self._followed.begin()
        return any(row.rehearsal is not None or self._is_followed(row.job) for row in self._rows.values())

    def draft(
        self, jobs: Sequence[Job | None], fresh: Mapping[Job, Sequence[int]], longest: int
    ) -> Drafts | None:
        """Start drafting.

        Args:
            jobs: by place.
            fresh: tokens that jobs have not been told of.
            longest: tokens that the longest row has.

        Returns:
            None if a pass over one token a row is better.
        """
        by_place: list[list[int]] = [[] for _ in jobs]
        limits: dict[int, int] = {}
        prospects = []
        for place, job in enumerate(jobs):
            row = None if job is None else self._rows.get(job)
            if row is None or not (most := row.most):
                continue
            if row.rehearsal is not None:
                by_place[place] = row.rehearsal.guess(most)
                most = len(by_place[place])
            elif self._is_followed(row.job):
                limits[place] = most
            else:
                continue
            prospects.append(row.prospect(most, is_there=True))
        room = inf if self._shared.context_length is None else self._shared.context_length - longest
        width = self._payoff.width(len(jobs), prospects, by_model=bool(limits), room=room)
        if width == 1:
            return None
        by_place = [guess[: width - 1] for guess in by_place]
        filled = [guess + [0] * (width - 1 - len(guess)) for guess in by_place]
        drafts = Drafts(Way(width, bool(limits)), mx.array(filled, dtype=mx.uint32), by_place)
        if limits:
            try:
                self._ask_model(drafts, jobs, limits, fresh)
            except Exception:  # the model itself may well be able to go on
                self._stop_following()
                return None
        return drafts

    def hear(self, drawn: Mapping[Job, tuple[list[int], int]], drafts: Drafts | None) -> None:
        """What rows have drawn.

        Args:
            drawn: by job the tokens, and how many had been drafted; of those all but the last token were right.
            drafts: what the pass was over; None if over one token a row.
        """
        for job, (tokens, num_drafted) in drawn.items():
            if (row := self._rows.get(job)) is not None:
                self._hear_row(row, tokens, num_drafted, is_plain=drafts is None)
        if drafts is not None and self._followed is not None:
            self._followed.judge({job: len(tokens) - 1 for job, (tokens, _) in drawn.items()})

    def _hear_row(self, row: _Row, tokens: list[int], num_drafted: int, *, is_plain: bool) -> None:
        self._shared.num_drafted += num_drafted
        self._shared.num_accepted += len(tokens) - 1
        if row.rehearsal is None:
            assert self._followed is not None
            self._followed.say(row.job, tokens)
            if num_drafted:
                row.record(num_drafted, len(tokens) - 1)
        elif is_plain:
            for num_guessed, num_right in row.rehearsal.rehearse(tokens):
                row.record(num_guessed, num_right)
        else:
            row.rehearsal.extend(tokens)
            row.record(num_drafted, len(tokens) - 1)

    def lap(self, num_places: int, way: Way, now: float, *, is_quiet: bool) -> None:
        """A pass has been read, see ``Meter.lap``."""
        if self._rows:
            self._meter.lap(num_places, way, now, is_quiet=is_quiet)

    def _prospects(self) -> list[Prospect]:
        return [row.prospect(row.most, is_there=False) for row in self._rows.values()]

    def _is_followed(self, job: Job) -> bool:
        return self._followed is not None and job in self._followed

    def _stop_following(self) -> None:
        if self._followed is not None and self._shared.model is not None:
            self._followed.clear()
            self._followed = DraftRows(self._shared.model)
        self._rows = {job: row for job, row in self._rows.items() if row.rehearsal is not None}

    def _ask_model(
        self,
        drafts: Drafts,
        jobs: Sequence[Job | None],
        limits: Mapping[int, int],
        fresh: Mapping[Job, Sequence[int]],
    ) -> None:
        assert self._followed is not None
        drafted = self._followed.draft(drafts.way.width - 1, fresh)
        rows = {job: row for row, job in enumerate(self._followed.jobs) if job is not None}
        whose = {
            place: (rows[job], most) for place, most in limits.items() if (job := jobs[place]) is not None
        }
        drafts.tokens[mx.array(list(whose))] = drafted[mx.array([row for row, _ in whose.values()])]
        drafts._by_model, drafts._whose = drafted, whose
