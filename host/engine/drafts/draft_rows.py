"""A lane's rows in the draft model: what it has read of them, and what it would say next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

import mlx.core as mx

from mlxbridge.host.engine.caches.caches import Source, nbytes
from mlxbridge.host.engine.caches.row_caches import RowCaches
from mlxbridge.host.engine.choice.chooser import Chooser
from mlxbridge.host.engine.drafts.draft_model import DraftModel
from mlxbridge.host.engine.drafts.payoff import WIDTHS
from mlxbridge.host.engine.rows import Job, LaterTurn

# Tokens a row that are read at once where a row has been left behind by plain steps.
_CATCH_UP = 64
_MAX_GIVEN_UP = 1 / 4


class DraftRows:
    """Rows that the draft model follows, each in its own time: what was said meanwhile is read with the next draft.

    A drafted token is in the caches once another was drafted behind it; those that turn out wrong are taken back.

    Attributes:
        longest: tokens that a row may have, and still be drafted for.
    """

    def __init__(self, model: DraftModel) -> None:
        self._model = model
        self.longest = inf if model.context_length is None else model.context_length - 2 * WIDTHS[-1]
        self._caches = RowCaches()
        self._places: dict[Job, int] = {}
        # Tokens that are not in the caches yet; empty while a row's draft is being checked.
        self._unread: dict[Job, list[int]] = {}
        # Of those, whose contexts are being read, or have been.
        self._begun: set[Job] = set()
        self._num_ahead = 0  # drafted tokens in the caches of which nobody knows yet whether they are right

    def __contains__(self, job: Job) -> bool:
        """Whether something can be drafted for it."""
        return job in self._places

    def place(self, job: Job) -> int:
        """Where its drafts will be."""
        return self._places[job]

    @property
    def num_bytes(self) -> int:
        """What the rows' caches take."""
        return nbytes(self._caches.layers)

    def follow(self, job: Job) -> None:
        """Remember what is said from here on; the context is read once somebody wants a draft."""
        self._unread[job] = [job.context[-1]]

    def begin(self) -> None:
        """Have the contexts of all rows read that have not ended."""
        for job in self._unread:
            if job not in self._begun and not job.ended:
                self._begun.add(job)
                self._model.begin(job)

    def join(self, ready: Mapping[Job, Source]) -> None:
        """Contexts of rows that are followed have been read."""
        taken = set(self._places.values())
        free = (place for place in range(self._caches.num_rows + len(ready)) if place not in taken)
        places = [place for place, _ in zip(free, ready, strict=False)]
        self._caches.place(list(ready.values()), places)
        self._places |= zip(ready, places, strict=True)

    def leave(self, job: Job) -> None:
        """A row has gone from the lane."""
        del self._unread[job]
        self._begun.discard(job)
        place = self._places.pop(job, None)
        if place is None:
            self._model.forget(job)
            return
        self._model.prefixes.leave(job, self._caches, place)
        self._caches.give_up(place)
        if not self._places:
            self._caches = RowCaches()
        elif len(self._places) < (1 - _MAX_GIVEN_UP) * self._caches.num_rows:
            self._caches.take(list(self._places.values()))
            self._places = {job: place for place, job in enumerate(self._places)}

    def clear(self) -> None:
        """All rows have gone, and what is in the caches may be wrong."""
        for job in self._unread:
            self._model.forget(job)
        self._caches = RowCaches()
        self._places, self._unread, self._begun, self._num_ahead = {}, {}, set(), 0

    def say(self, job: Job, tokens: Sequence[int]) -> None:
        """These tokens have been drawn."""
        self._unread[job] += tokens

    def judge(self, num_accepted: Mapping[Job, int]) -> None:
        """Of what was drafted last so many tokens were right, and have been said; the rest is taken back."""
        num_ahead, self._num_ahead = self._num_ahead, 0
        if not num_ahead or not self._places:
            return
        num_dropped = [num_ahead] * self._caches.num_rows
        for job, place in self._places.items():
            num_kept = min(num_accepted.get(job, 0), num_ahead)
            num_dropped[place] -= num_kept
            del self._unread[job][:num_kept]
        self._caches.retract(num_dropped)

    def draft(self, num_tokens: int, fresh: Mapping[Job, Sequence[int]]) -> mx.array:
        """Start drafting for all rows.

        Args:
            num_tokens: for each row; as many steps of the model.
            fresh: tokens that jobs have not been told of.

        Returns:
            uint32 array (places, num_tokens), not evaluated.
        """
        unread: list[list[int]] = [[] for _ in range(self._caches.num_rows)]
        turns: list[LaterTurn | None] = [None for _ in unread]
        for job, place in self._places.items():
            unread[place], self._unread[job] = self._unread[job], []
            turns[place] = LaterTurn(job, fresh.get(job, ()))
        tokens = mx.array([row[-1] if row else 0 for row in unread], dtype=mx.uint32)
        logits = self._read(unread)
        chooser = Chooser(turns)
        drafted: list[mx.array] = []
        while True:
            tokens = chooser.choose(logits, tokens).tokens
            drafted.append(tokens)
            mx.async_eval(tokens)  # type: ignore[no-untyped-call]
            if len(drafted) == num_tokens:
                break
            logits = self._model.forward(tokens[:, None], self._caches.layers)[:, -1]
            self._caches.advance()
        self._num_ahead = num_tokens - 1
        return mx.stack(drafted, axis=1)

    def _read(self, unread: Sequence[list[int]]) -> mx.array:
        """Read what rows have not read; the logits behind it, (rows, vocabulary size)."""
        while max(map(len, unread)) > WIDTHS[-1]:
            parts = [row[:-1][:_CATCH_UP] for row in unread]
            self._pass_over(parts, _CATCH_UP)
            unread = [row[len(part) :] for row, part in zip(unread, parts, strict=True)]
        longest = max(map(len, unread))
        logits = self._pass_over(unread, next(width for width in WIDTHS if width >= longest))
        last = mx.array([max(0, len(row) - 1) for row in unread])
        return mx.take_along_axis(logits, last[:, None, None], axis=1)[:, 0]

    def _pass_over(self, rows: Sequence[list[int]], width: int) -> mx.array:
        """Read some tokens of each row, at most ``width``; behind them there are fillers, which are taken back."""
        filled = mx.array([row + [0] * (width - len(row)) for row in rows], dtype=mx.uint32)
        logits = self._model.forward(filled, self._caches.layers)
        self._caches.advance(width)
        self._caches.retract([width - len(row) for row in rows])
        return logits
