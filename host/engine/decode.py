"""Rows that are decoded together, one forward pass a step, one step ahead of what the host has read.

Where tokens are drafted, the host reads first, and a pass is over each row's last token and what was drafted behind it.
The row's own token is then drawn for each of these places as it would have been without: as long as it is the one that
was drafted, the next place was right, too. So what is drafted changes how soon tokens come, and nothing else: for a
proposal without chance of its own this is speculative sampling (Leviathan et al. 2023, Chen et al. 2023) to the letter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from time import perf_counter
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.caches.caches import Source, nbytes
from mlxbridge.host.engine.caches.row_caches import Ready, RowCaches
from mlxbridge.host.engine.choice.chooser import Chooser
from mlxbridge.host.engine.choice.logprobs import Likelihoods
from mlxbridge.host.engine.drafts.drafting import Drafting, Drafts
from mlxbridge.host.engine.drafts.speculation import Speculator
from mlxbridge.host.engine.grammar.masks import Masks
from mlxbridge.host.engine.passes import Draw, Fresh, Pass, judge, turns
from mlxbridge.host.engine.rows import Job

# Given up places are computed along until they are this share of all: a departure copies all that stays.
_MAX_GIVEN_UP = 1 / 8


# Told of a job that has ended, while its row is still at this place.
Leave = Callable[[Job, RowCaches, int], None]


class Lane:
    """A batch of rows, from their prompt's last token to their answer's last one.

    A step is ``catch_up``, ``settle``, ``join``, ``queue``, ``read``. ``queue`` starts the computation of every row's next
    token from the token before it, which is still on the device; ``read`` then waits for that one only. Where a row is
    constrained, what it may draw depends on the token before: ``queue`` then starts the forward pass alone, a thread
    waits for that token meanwhile and looks what may follow, and ``read`` starts the choice. Before a pass over drafted
    tokens ``catch_up`` waits for all that was drawn, and ``read`` has nothing left to wait for.
    """

    def __init__(
        self,
        model: Any,
        *,
        can_grow: bool,
        leave: Leave,
        speculator: Speculator | None = None,
        adapter: str | None = None,
    ) -> None:
        """Start empty; a lane that cannot grow holds one row, in the model's own plain caches.

        Args:
            adapter: which one is active in the model whenever the lane is used; all its rows have it.
        """
        self.adapter = adapter
        self._model = model
        self._leave = leave
        self._can_grow = can_grow
        self._caches = RowCaches()
        # By place; None where a row has ended.
        self._jobs: list[Job | None] = []
        # uint32 (places,): the next step's input.
        self._tokens: mx.array = mx.array([], dtype=mx.uint32)
        self._unread: Pass | None = None
        self._read_next: Pass | None = None
        self._chooser: Chooser | None = None
        # By what the next tokens are chosen, and from what, where that has to wait.
        self._choosing: Chooser | None = None
        self._logits: mx.array | None = None
        self._looking: Future[list[Draw]] | None = None
        self._is_constrained = False
        self._speculator = speculator
        # Made for the first row that may draft.
        self._drafting: Drafting | None = None
        self._is_drafting = False
        self._is_quiet = self._has_read = False
        # Tokens that were read in this step, before the next pass; their jobs will be told of them after it.
        self._fresh: Fresh = {}

    @property
    def jobs(self) -> list[Job]:
        """Of the rows, those among them that have ended since the last ``settle``."""
        return [job for job in self._jobs if job is not None]

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
        num_bytes = nbytes(self._caches.layers)
        return num_bytes if self._drafting is None else num_bytes + self._drafting.num_bytes

    def catch_up(self, *, is_quiet: bool, has_read: bool = False) -> list[Draw]:
        """Decide whether the next pass is over drafted tokens; if this one or that one is, read what was drawn.

        Args:
            is_quiet: nothing but steps of this lane takes time, and what the draft model reads.
            has_read: it reads contexts in this step.
        """
        if self._drafting is None:
            return []
        self._is_drafting = self._drafting.decide(len(self._jobs))
        self._is_quiet, self._has_read = is_quiet, has_read
        unread = self._unread
        if unread is None or not self._is_drafting and unread.drafts is None:
            return []
        self._unread = None
        drawn = self._read(unread)
        self._learn(unread, drawn)
        self._fresh = {job: tokens for job, tokens, _, _ in drawn}
        return drawn

    def join_drafts(self, done: Mapping[Job, Source | None]) -> None:
        """The draft model has read these contexts, or could not; some may be of this lane's rows."""
        if self._drafting is not None:
            self._drafting.join(done)

    def forget_drafts(self) -> None:
        """The lane is given up, and nothing is to be drafted for its rows."""
        if self._drafting is not None:
            self._drafting.clear()

    def settle(self, *, num_joining: int = 0, max_given_up: float = _MAX_GIVEN_UP) -> None:
        """Give up the places of jobs that ended; move the others together if too many are not needed.

        Args:
            num_joining: rows that will take given up places in this step.
            max_given_up: the share of all places that need not be given back.
        """
        for place, job in enumerate(self._jobs):
            if job is not None and job.ended:
                self._leave(job, self._caches, place)
                if self._drafting is not None:
                    self._drafting.remove(job)
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
                self._is_constrained = True
            if row.job.drafts is not None and self._speculator is not None:
                self._drafting = self._drafting or Drafting(self._speculator)
                self._drafting.add(row.job)
            values[place], is_new[place] = row.job.context[-1], True
        before = mx.concatenate([self._tokens, mx.zeros(num_new, dtype=mx.uint32)])
        self._tokens = mx.where(mx.array(is_new), mx.array(values, dtype=mx.uint32), before)
        self._chooser = None

    def queue(self) -> None:
        """Start computing the next token of every row, unless all have got their last."""
        self._read_next, self._unread = self._unread, None
        fresh, self._fresh = self._fresh, {}
        goes_on = any(job is not None and job.num_left > 0 for job in self._jobs)
        drafts = self._draft(fresh) if self._is_drafting and goes_on else None
        if drafts is not None:
            self._queue_drafts(drafts, fresh)
            return
        chooser = self._choosing = self._chooser_behind(fresh)
        if not goes_on:
            return
        if not self._is_drafting:
            self._caches.align()
        if chooser.masks is None:
            self._choose(chooser, self._forward())
        else:
            self._logits = self._look_beside_forward(chooser.masks)

    def read(self) -> list[Draw]:
        """Wait for the tokens that the step before started; one copy for all rows."""
        looking, self._looking = self._looking, None
        drawn = self._look() if looking is None else looking.result()
        read, self._read_next = self._read_next, None
        logits, self._logits = self._logits, None
        if logits is not None and self._choosing is not None:
            self._choose(self._choosing, logits)
        if read is not None:
            self._learn(read, drawn)
        return drawn

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

    def _look_beside_forward(self, masks: Masks) -> mx.array:
        # Most of a pass's launch leaves the interpreter's lock to others, and takes the host longer than the masks.
        if self._read_next is None or self._read_next.drawn.is_apart:
            self._looking = masks.thread.submit(self._look)
        try:
            logits = self._forward()
            mx.async_eval(logits)  # type: ignore[no-untyped-call]
        except BaseException:
            if self._looking is not None:
                wait([self._looking])  # nobody may follow these answers at the same time
            raise
        return logits

    def _look(self) -> list[Draw]:
        """Read, and see what constrained rows may draw next; of what lanes share, nothing is touched."""
        drawn = [] if self._read_next is None else self._read(self._read_next)
        if self._choosing is not None and self._choosing.masks is not None:
            self._choosing.masks.compute()
        return drawn

    def _choose(self, chooser: Chooser, logits: mx.array) -> None:
        """Start the choice of every row's next token."""
        drawn = chooser.choose(logits, self._tokens)
        drawn.start()
        self._tokens = drawn.tokens
        self._in_flight(Pass(drawn, list(self._jobs), is_ahead=not self._is_drafting))

    def _in_flight(self, unread: Pass) -> None:
        self._unread = unread
        for job in self._jobs:
            if job is not None:
                job.num_drawn += 1

    def _read(self, unread: Pass) -> list[Draw]:
        jobs, drafts = unread.jobs, unread.drafts
        if drafts is None and not any(job is not None and not job.ended for job in jobs):
            return []
        tokens, likelihoods = unread.drawn.read()
        drawn: list[Draw]
        if drafts is not None:
            drawn = self._judge(drafts, unread, tokens, likelihoods)
        else:
            drawn = [
                (job, [token], [likelihoods[place]] if place in likelihoods else None, 0)
                for place, (job, token) in enumerate(zip(jobs, tokens, strict=True))
                if job is not None and not job.ended
            ]
        if self._is_constrained:
            for job, own, _, _ in drawn:
                if job.constraint is not None:
                    job.constraint.take(own[0])  # nothing is drafted for it, so there is one
        return drawn

    def _learn(self, read: Pass, drawn: list[Draw]) -> None:
        """Tell who drafts what was read."""
        if self._drafting is None or not drawn and read.drafts is None:
            return
        self._drafting.lap(
            len(read.jobs),
            read.way,
            perf_counter(),
            num_tokens=sum(len(own) for _, own, _, _ in drawn) / max(1, len(drawn)),
            is_quiet=self._is_quiet,
            has_read=self._has_read,
        )
        self._drafting.hear(
            {job: (own, num_drafted) for job, own, _, num_drafted in drawn}, is_plain=read.drafts is None
        )

    def _draft(self, fresh: Fresh) -> Drafts | None:
        assert self._drafting is not None
        longest = max(self._caches.length(place) for place, job in enumerate(self._jobs) if job is not None)
        return self._drafting.draft(self._jobs, fresh, longest)

    def _queue_drafts(self, drafts: Drafts, fresh: Fresh) -> None:
        tokens = mx.concatenate([self._tokens[:, None], drafts.tokens], axis=1)
        logits: mx.array = self._model(tokens, cache=self._caches.layers)
        self._caches.advance(drafts.way.width)
        mx.async_eval(logits)  # type: ignore[no-untyped-call]
        chooser = Chooser(turns(self._jobs, fresh, drafts))
        if chooser.masks is not None:
            chooser.masks.compute()
        drawn = chooser.choose(logits.reshape(-1, logits.shape[-1]), tokens.reshape(-1))
        drawn.start()
        self._chooser = self._choosing = None  # what a chooser remembers is behind the last drafted token now
        self._in_flight(Pass(drawn, list(self._jobs), drafts))

    def _chooser_behind(self, fresh: Fresh) -> Chooser:
        if any(len(tokens) > 1 for tokens in fresh.values()):
            # Of the tokens that were read in this step jobs know none yet, and a chooser is told all but the last one.
            return Chooser(turns(self._jobs, fresh))
        if self._chooser is None:
            self._chooser = Chooser(self._jobs)
        return self._chooser

    def _judge(
        self, drafts: Drafts, unread: Pass, tokens: list[int], known: dict[int, Likelihoods]
    ) -> list[Draw]:
        """Keep of each row what was drawn up to the first token that is not the drafted one, that among them."""
        judged = judge(unread.jobs, drafts, tokens, known)
        came_from = range(len(judged.lasts)) if unread.came_from is None else unread.came_from
        self._caches.retract([judged.num_dropped[place] for place in came_from])
        self._tokens = mx.array([judged.lasts[place] for place in came_from], dtype=mx.uint32)
        return judged.drawn

    def _take(self, places: list[int]) -> None:
        self._caches.take(places)
        self._jobs = [self._jobs[place] for place in places]
        self._tokens = self._tokens[mx.array(places)]
        self._chooser = None
        if self._unread is not None:
            self._unread.take(places)
