"""What a lane's rows may say next: whether anything is drafted, how much, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.caches.caches import Source
from mlxbridge.host.engine.drafts.acceptance import Prospect
from mlxbridge.host.engine.drafts.draft_rows import DraftRows
from mlxbridge.host.engine.drafts.drafters import Drafter, LookupDrafter, ModelDrafter
from mlxbridge.host.engine.drafts.payoff import Meter, Payoff, Way
from mlxbridge.host.engine.drafts.speculation import Speculator
from mlxbridge.host.engine.rows import Job


class Drafts:
    """Tokens that may come behind those that a lane's rows have.

    Attributes:
        way: how wide the pass over them is, and whether the draft model has drafted.
        tokens: uint32 array (places, width - 1), not evaluated; behind a row's draft there are fillers.
    """

    def __init__(self, way: Way, by_place: Sequence[list[int]]) -> None:
        """Take what is known on the host."""
        num_tokens = way.width - 1
        self.way = way
        self._by_place = [guess[:num_tokens] for guess in by_place]
        self.tokens = mx.array(
            [guess + [0] * (num_tokens - len(guess)) for guess in self._by_place], dtype=mx.uint32
        )
        self._drafted: mx.array | None = None
        self._rows: list[tuple[int, int, int]] = []

    def add(self, drafted: mx.array, rows: Sequence[tuple[int, int, int]]) -> None:
        """Take what a draft model is drafting.

        Args:
            drafted: uint32 array (its rows, width - 1), not evaluated.
            rows: for some places: the place, its row, and how many tokens are wanted.
        """
        places, sources, _ = zip(*rows, strict=True)
        self.tokens[mx.array(places)] = drafted[mx.array(sources)]
        self._drafted, self._rows = drafted, list(rows)

    def read(self) -> list[list[int]]:
        """The drafts by place, without fillers; waits for the draft model."""
        if self._drafted is not None:
            drafted: Any = self._drafted.tolist()
            for place, row, most in self._rows:
                self._by_place[place] = drafted[row][:most]
            self._drafted = None
        return self._by_place


class Drafting:
    """The drafts of a lane's rows; of those that want any."""

    def __init__(self, speculator: Speculator) -> None:
        self._speculator = speculator
        self._drafters: dict[Job, Drafter] = {}
        self._payoff = Payoff(speculator.costs)
        self._meter = Meter(speculator.costs)
        self._followed = None if speculator.model is None else DraftRows(speculator.model)

    @property
    def num_bytes(self) -> int:
        """What the draft model's caches of these rows take."""
        return 0 if self._followed is None else self._followed.num_bytes

    def add(self, job: Job) -> None:
        """A row has joined the lane."""
        if job.drafts is None:
            return
        usual, most = self._speculator.usual[job.drafts.by_model], job.drafts.most
        if not job.drafts.by_model:
            self._drafters[job] = LookupDrafter(job, most, usual)
        elif self._followed is not None:
            self._drafters[job] = ModelDrafter(job, most, usual, self._followed)
            if self._drafters[job].is_over:
                self.remove(job)

    def remove(self, job: Job) -> None:
        """A row leaves the lane, or has nothing drafted any more."""
        if isinstance(self._drafters.pop(job, None), ModelDrafter) and self._followed is not None:
            self._followed.leave(job)

    def clear(self) -> None:
        """All rows have gone, and what the draft model has of them may be wrong."""
        self._drafters.clear()
        self._stop_following()

    def join(self, done: Mapping[Job, Source | None]) -> None:
        """The draft model has read these contexts, or could not (None); some may be of this lane's rows."""
        if self._followed is None:
            return
        ready = {}
        for job, source in done.items():
            if source is None:
                self.remove(job)
            elif job in self._drafters:
                ready[job] = source
        if ready:
            self._followed.join(ready)

    def decide(self, num_places: int) -> bool:
        """Whether the next pass is to be over drafts, so that all that was drawn has to be read before."""
        drafters = self._drafters.values()
        by_model = self._has_model_drafter
        if not drafters or not self._payoff.decide(num_places, self._expect, by_model=by_model):
            return False
        if self._followed is not None:
            self._followed.begin()
        return any(drafter.is_ready for drafter in drafters)

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
        guesses: list[list[int]] = [[] for _ in jobs]
        by_model: dict[int, tuple[Job, int]] = {}
        prospects: list[Prospect] = []
        for place, job in enumerate(jobs):
            if job is None or (drafter := self._drafters.get(job)) is None:
                continue
            if not drafter.is_ready or not (most := drafter.most):
                continue
            if isinstance(drafter, LookupDrafter):
                guesses[place] = drafter.guess()
                most = len(guesses[place])
            else:
                by_model[place] = job, most
            prospects.append(drafter.expect_of(most))
        room = inf if self._speculator.context_length is None else self._speculator.context_length - longest
        width = self._payoff.width(len(jobs), prospects, by_model=bool(by_model), room=room)
        if width == 1:
            return None
        drafts = Drafts(Way(width, bool(by_model)), guesses)
        if not by_model:
            return drafts
        try:
            self._ask_model(drafts, by_model, fresh)
        except Exception:  # the model itself may well be able to go on
            self._stop_following()
            return None
        return drafts

    def hear(self, drawn: Mapping[Job, tuple[list[int], int]], *, is_plain: bool) -> None:
        """What rows have drawn.

        Args:
            drawn: by job the tokens, and how many had been drafted; of those all but the last token were right.
            is_plain: it was no pass over drafts.
        """
        for job, (tokens, num_drafted) in drawn.items():
            if (drafter := self._drafters.get(job)) is not None:
                drafter.hear(tokens, num_drafted, is_plain=is_plain)
                self._speculator.count(num_drafted, len(tokens) - 1)
        if not is_plain and self._followed is not None:
            self._followed.judge({job: len(tokens) - 1 for job, (tokens, _) in drawn.items()})
        for job in [job for job, drafter in self._drafters.items() if drafter.is_over]:
            self.remove(job)

    def lap(
        self, num_places: int, way: Way, now: float, *, num_tokens: float, is_quiet: bool, has_read: bool
    ) -> None:
        """A pass has been read, see ``Meter.lap``."""
        if self._drafters:
            self._meter.lap(
                num_places,
                way,
                now,
                num_tokens=num_tokens,
                by_model=self._has_model_drafter,
                is_quiet=is_quiet,
                has_read=has_read,
            )

    @property
    def _has_model_drafter(self) -> bool:
        return any(isinstance(drafter, ModelDrafter) for drafter in self._drafters.values())

    def _expect(self) -> list[Prospect]:
        return [drafter.expect() for drafter in self._drafters.values()]

    def _ask_model(
        self,
        drafts: Drafts,
        by_model: Mapping[int, tuple[Job, int]],
        fresh: Mapping[Job, Sequence[int]],
    ) -> None:
        assert self._followed is not None
        drafted = self._followed.draft(drafts.way.width - 1, fresh)
        drafts.add(
            drafted, [(place, self._followed.place(job), most) for place, (job, most) in by_model.items()]
        )

    def _stop_following(self) -> None:
        if self._followed is not None:
            self._followed.clear()
        for job in [job for job, drafter in self._drafters.items() if isinstance(drafter, ModelDrafter)]:
            del self._drafters[job]
