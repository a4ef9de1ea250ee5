"""A row of the batch: what the model needs to know of a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mlxbridge.host.engine.grammar.constraint import Constraint
from mlxbridge.host.engine.settings import GREEDY, DraftSettings, Settings


class Turn(Protocol):
    """A token that is to be chosen."""

    @property
    def settings(self) -> Settings:
        """How."""

    @property
    def num_drawn(self) -> int:
        """Its position in the answer."""

    @property
    def answer(self) -> list[int]:
        """See ``Job``."""

    @property
    def constraint(self) -> Constraint | None:
        """See ``Job``."""

    @property
    def closes_at(self) -> int | None:
        """See ``Job``."""

    @property
    def ended(self) -> bool:
        """See ``Job``."""

    def recent(self, size: int) -> list[int]:
        """At most so many last tokens of prompt and answer, before the one that it follows."""


@dataclass(slots=True, eq=False)
class Job:
    """One answer in the making, from its prompt on.

    Attributes:
        prompt: token ids, at least one.
        max_tokens: tokens that may be drawn.
        scope: whose cached prefixes it may use.
        adapter: with which of the model's LoRA adapters it is computed; None: with none.
        constraint: what the answer is held to, None if nothing; jobs of one call hand it on.
        rank: the class of its priority; 0 is read first.
        drafts: how tokens are drafted for it; None if none are.
        num_drawn: tokens whose computation was queued; the last one may not have been read.
        num_reused: tokens of the prompt that were not read for it; None until it begins to be read.
        answer: tokens that have been read.
        closes_at: position in the answer from which reasoning is closed; None while it may go on, or is closed.
        context: tokens that its caches are made from, at the beginning: the prompt, and of a job that begins again
            the answer so far.
        ended: no more tokens are wanted; its place is given up at the start of the next step.
    """

    prompt: list[int]
    max_tokens: int
    settings: Settings = GREEDY
    scope: str = ""
    adapter: str | None = None
    constraint: Constraint | None = None
    rank: int = 0
    drafts: DraftSettings | None = None
    num_drawn: int = 0
    num_reused: int | None = None
    answer: list[int] = field(default_factory=list)
    closes_at: int | None = None
    ended: bool = False
    context: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.context = self.prompt

    @property
    def num_left(self) -> int:
        """Tokens that may still be drawn."""
        return self.max_tokens - self.num_drawn

    def reuse(self, num_tokens: int) -> None:
        """Note how much of the prompt was not read for it; what is read when it begins again does not count."""
        if self.num_reused is None:
            self.num_reused = num_tokens

    def again(self) -> Job:
        """End, and go on as another job, whose caches have to be made anew; what was drawn but not read is drawn again."""
        self.ended = True
        job = replace(self, num_drawn=len(self.answer), ended=False)
        job.context = self.prompt + self.answer
        return job

    def recent(self, size: int) -> list[int]:
        """The last tokens before the one that the next draw follows, which is the prompt's last or the last drawn."""
        if not size:
            return []
        if not self.num_drawn:
            return self.prompt[-size - 1 : -1]
        read = self.answer[: self.num_drawn - 1]
        return [*self.prompt[-size:], *read[-size:]][-size:]


@dataclass(frozen=True, slots=True)
class LaterTurn:
    """The turn behind tokens that a job has not been told of.

    Attributes:
        said: those behind the job's answer: drawn, and then drafted.
    """

    job: Job
    said: Sequence[int]

    @property
    def settings(self) -> Settings:
        """See ``Turn``."""
        return self.job.settings

    @property
    def answer(self) -> list[int]:
        """See ``Turn``."""
        return self.job.answer

    @property
    def constraint(self) -> Constraint | None:
        """See ``Turn``."""
        return self.job.constraint

    @property
    def closes_at(self) -> int | None:
        """See ``Turn``."""
        return self.job.closes_at

    @property
    def ended(self) -> bool:
        """See ``Turn``."""
        return self.job.ended

    @property
    def num_drawn(self) -> int:
        """See ``Turn``."""
        return len(self.job.answer) + len(self.said)

    def recent(self, size: int) -> list[int]:
        """See ``Turn``."""
        tokens = [*self.job.prompt[-size - 1 :], *self.job.answer[-size - 1 :], *self.said]
        return tokens[:-1][-size:] if size else []
