"""How often drafted tokens are right, learnt draft by draft; plain bookkeeping."""

from __future__ import annotations

from typing import NamedTuple

# How much the latest drafted token counts: for one row, and for what is usual.
_WEIGHT, _USUAL_WEIGHT = 0.05, 0.02


class Acceptance:
    """Of one row's drafts, or of drafts of a kind as a rule.

    Attributes:
        rate: how often a drafted token is right, if all before it are.
        presence: how often there is a draft at all.
    """

    def __init__(self, rate: float = 0.7, presence: float = 0.7, *, weight: float = _USUAL_WEIGHT) -> None:
        self.rate = rate
        self.presence = presence
        self._weight = weight

    def of_row(self) -> Acceptance:
        """A new row's: it begins with what is usual, and learns faster."""
        return Acceptance(self.rate, self.presence, weight=_WEIGHT)

    def record(self, num_drafted: int, num_accepted: int) -> None:
        """Learn from one draft, maybe an empty one; what comes behind the first wrong token tells nothing."""
        self.presence += self._weight * ((num_drafted > 0) - self.presence)
        self.rate = 1 - (1 - self.rate) * (1 - self._weight) ** num_accepted
        if num_accepted < num_drafted:
            self.rate *= 1 - self._weight


class Prospect(NamedTuple):
    """What can be expected of a row's next draft.

    Attributes:
        rate: see ``Acceptance``.
        presence: how likely there is one; 1 if it is there already.
        most: tokens it may have.
    """

    rate: float
    presence: float
    most: int

    def gain(self, num_tokens: int) -> float:
        """Tokens that will be accepted if so many may be drafted: the sum of ``rate ** k`` for k from 1 on."""
        number = min(num_tokens, self.most)
        if self.rate >= 1:
            return self.presence * number
        return self.presence * float(self.rate * (1 - self.rate**number) / (1 - self.rate))
