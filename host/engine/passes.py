"""Forward passes of a lane: what is to be chosen of each, and what has become of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlxbridge.host.engine.choice.chooser import Drawn
from mlxbridge.host.engine.choice.logprobs import Likelihoods
from mlxbridge.host.engine.drafts.drafting import Drafts
from mlxbridge.host.engine.drafts.payoff import PLAIN, Way
from mlxbridge.host.engine.rows import Job, LaterTurn

Fresh = dict[Job, list[int]]
"""Tokens that were read in this step, of which their jobs have not been told."""

Draw = tuple[Job, list[int], list[Likelihoods] | None, int]
"""A job, tokens that it has drawn, what is known of each if it asked, and how many tokens had been drafted for it."""


@dataclass(slots=True)
class Pass:
    """Tokens that were drawn, and have not been read.

    Attributes:
        jobs: by place, at that time.
        drafts: what the pass was over; None if it was over one token a row.
        is_ahead: it was queued before the host knew the token before.
        came_from: by place now, which place its row had then; None if no row has moved.
    """

    drawn: Drawn
    jobs: list[Job | None]
    drafts: Drafts | None = None
    is_ahead: bool = True
    came_from: list[int] | None = None

    def take(self, places: list[int]) -> None:
        """The lane keeps the rows of these places alone, in this order."""
        came_from = self.came_from
        self.came_from = places if came_from is None else [came_from[place] for place in places]

    @property
    def way(self) -> Way:
        """How it was made."""
        if self.drafts is not None:
            return self.drafts.way
        return PLAIN if self.is_ahead else Way(1)


@dataclass(frozen=True, slots=True)
class Judged:
    """What is kept of a pass over drafted tokens.

    Attributes:
        lasts: by place, the last token that is right.
        num_dropped: by place, how many of the pass's tokens came to nothing.
    """

    drawn: list[Draw]
    lasts: list[int]
    num_dropped: list[int]


def turns(jobs: Sequence[Job | None], fresh: Fresh, drafts: Drafts | None = None) -> list[LaterTurn | None]:
    """By place, and within it by the number of drafted tokens before: what is to be chosen; None for fillers."""
    width = 1 if drafts is None else drafts.way.width
    by_place = [[] for _ in jobs] if drafts is None else drafts.read()
    found: list[LaterTurn | None] = []
    for job, drafted in zip(jobs, by_place, strict=True):
        own = []
        if job is not None:
            said = fresh.get(job, [])
            own = [LaterTurn(job, [*said, *drafted[:number]]) for number in range(len(drafted) + 1)]
        found += [*own, *[None] * (width - len(own))]
    return found


def judge(
    jobs: Sequence[Job | None], drafts: Drafts, tokens: Sequence[int], likelihoods: Mapping[int, Likelihoods]
) -> Judged:
    """Keep of each row what was drawn up to the first token that is not the drafted one, that among them.

    Args:
        jobs: by place; they are told of the right ones among their drafts.
        drafts: what the pass was over.
        tokens: that were drawn, one for each of ``turns``.
        likelihoods: by number of the turn, of rows that asked.
    """
    width = drafts.way.width
    judged = Judged([], [], [])
    for place, (job, drafted) in enumerate(zip(jobs, drafts.read(), strict=True)):
        first = place * width
        num_right = _num_equal(drafted, tokens[first : first + width])
        own = range(first, first + num_right + 1)
        judged.lasts.append(tokens[own[-1]])
        judged.num_dropped.append(width - len(own))
        if job is not None:
            job.num_drawn += num_right
            if not job.ended:
                known = [likelihoods[number] for number in own] if first in likelihoods else None
                judged.drawn.append((job, [tokens[number] for number in own], known, len(drafted)))
    return judged


def _num_equal(drafted: Sequence[int], drawn: Sequence[int]) -> int:
    """How many tokens are the same before the first that is not."""
    pairs = zip(drafted, drawn, strict=False)
    return next((number for number, (one, other) in enumerate(pairs) if one != other), len(drafted))
