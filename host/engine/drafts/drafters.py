"""Who drafts for a row: its own text, looked up, or a draft model that follows it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from mlxbridge.host.engine.drafts.acceptance import Acceptance, Prospect
from mlxbridge.host.engine.drafts.draft_rows import DraftRows
from mlxbridge.host.engine.drafts.rehearsal import Rehearsal
from mlxbridge.host.engine.rows import Job


class Drafter(ABC):
    """What one row's drafts have come to, and what may be expected of the next."""

    def __init__(self, job: Job, most: int, usual: Acceptance) -> None:
        """Begin with what is usual.

        Args:
            job: the row's.
            most: tokens to draft at once.
            usual: also learns what becomes of this row's.
        """
        self.job = job
        self._most = most
        self._acceptance = usual.of_row()
        self._usual = usual

    @property
    def most(self) -> int:
        """Tokens that may be drafted now: the pass over them draws one more."""
        return 0 if self.job.ended else max(0, min(self._most, self.job.num_left - 1))

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it can draft."""

    @property
    def is_over(self) -> bool:
        """Whether it cannot draft any more."""
        return False

    @abstractmethod
    def hear(self, tokens: list[int], num_drafted: int, *, is_plain: bool) -> None:
        """The row has drawn these tokens.

        Args:
            tokens: all but the last had been drafted.
            num_drafted: as many had been.
            is_plain: it was no pass over drafts.
        """

    def expect(self) -> Prospect:
        """What to expect of a draft that may be asked for."""
        return Prospect(self._acceptance.rate, self._acceptance.presence, self.most)

    def expect_of(self, num_tokens: int) -> Prospect:
        """What to expect of a draft of at most so many tokens that is there, or will be if asked for."""
        return Prospect(self._acceptance.rate, 1.0, num_tokens)

    def _record(self, num_drafted: int, num_accepted: int) -> None:
        self._acceptance.record(num_drafted, num_accepted)
        self._usual.record(num_drafted, num_accepted)


class LookupDrafter(Drafter):
    """Drafts what followed the row's last tokens when they came before."""

    is_ready = True

    def __init__(self, job: Job, most: int, usual: Acceptance) -> None:
        super().__init__(job, most, usual)
        self._rehearsal = Rehearsal(job.context)

    def guess(self) -> list[int]:
        """The draft; empty if nothing came before."""
        return self._rehearsal.guess(self.most)

    def hear(self, tokens: list[int], num_drafted: int, *, is_plain: bool) -> None:
        """See ``Drafter.hear``; what plain steps draw tells what would have become of drafts."""
        if is_plain:
            for num_guessed, num_right in self._rehearsal.rehearse(tokens):
                self._record(num_guessed, num_right)
        else:
            self._rehearsal.extend(tokens)
            self._record(num_drafted, len(tokens) - 1)


class ModelDrafter(Drafter):
    """Lets a draft model follow the row."""

    def __init__(self, job: Job, most: int, usual: Acceptance, rows: DraftRows) -> None:
        super().__init__(job, most, usual)
        self._rows = rows
        rows.follow(job)

    @property
    def is_ready(self) -> bool:
        """Whether the draft model has read the row's context."""
        return self.job in self._rows

    @property
    def is_over(self) -> bool:
        """Whether the row comes too near the end of the draft model's context."""
        return len(self.job.prompt) + self.job.num_drawn > self._rows.longest

    def hear(self, tokens: list[int], num_drafted: int, *, is_plain: bool) -> None:
        """See ``Drafter.hear``."""
        self._rows.say(self.job, tokens)
        if num_drafted:
            self._record(num_drafted, len(tokens) - 1)
