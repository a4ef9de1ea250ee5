"""Whether drafting pays, and how much of it: from what passes took and what drafts promise; plain bookkeeping.

A plain step gives each row of a lane one token, and is computed while the host reads the one before. A pass over
drafted tokens gives a row as many more as were right, but takes longer: the device computes more, and the host has to
know every token before it can draft. How much longer depends on the machine, the model and the number of rows; it is
measured. What was not measured yet is guessed rather too low, so that it is tried.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import inf, prod
from statistics import median
from typing import NamedTuple

from mlxbridge.host.engine.drafts.acceptance import Prospect
from mlxbridge.host.engine.interface import MAX_DRAFT_TOKENS

WIDTHS = (1, 2, 4, 8, MAX_DRAFT_TOKENS + 1)
"""Tokens of a row that a pass may have: its last one, and those drafted. Few, since a device may plan for each."""

# Drafting begins where it promises so many times the tokens a second, and ends where it promises so many.
_BEGIN, _END = 1.05, 0.96
# Steps from one decision to the next, since a change costs one in which the device waits; and of a look at the other way.
_HOLD, _LOOK = 8, 4
# Steps after which the other way is looked at again; twice as many each time that it was still the worse one.
_LEAST_PATIENCE, _MOST_PATIENCE = 128, 1024
# Plain steps' time that drafts may lose to begin with, and for each plain step later.
_ALLOWANCE, _LOST_SHARE = 64, 0.02
# Passes of one kind whose median counts, and how many there must be.
_NUM_KEPT, _NUM_NEEDED = 5, 2
# What a further token in a pass adds to it, as a share of a plain step: with a draft model, and without.
_DRAFTED_SHARE, _READ_SHARE = 0.15, 0.02


class Way(NamedTuple):
    """How all rows of a lane get on.

    Attributes:
        width: tokens a row, one of ``WIDTHS``; 0 for a plain step.
        by_model: whether the draft model takes part.
    """

    width: int
    by_model: bool = False


PLAIN = Way(0)


class Ledger:
    """What drafts have saved and lost, by the number of rows and who drafts, against plain steps for as many tokens.

    A median knows nothing of what is dear now and then, such as lengths that a device plans anew, of changes from one way
    to the other, or of contexts that the draft model reads. Here all of it is booked. Drafts that have lost what they may
    pause until plain steps have made up for it, so however wrong a guess is, it costs little.
    """

    def __init__(self) -> None:
        # In plain steps: what may yet be lost.
        self._left: dict[tuple[int, bool], float] = {}

    def can_afford(self, num_rows: int, *, by_model: bool) -> bool:
        """Whether anything may be drafted."""
        return self._left.get((size_class(num_rows), by_model), _ALLOWANCE) > 0

    def book(self, num_rows: int, num_saved: float, *, by_model: bool) -> None:
        """So many plain steps were saved, or lost if it is less than nothing."""
        key = size_class(num_rows), by_model
        self._left[key] = min(self._left.get(key, _ALLOWANCE) + num_saved, _ALLOWANCE)


class Costs:
    """Seconds that passes take, by the number of rows and the way: the median of the latest.

    Attributes:
        ledger: what all of them together have come to.
    """

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._times: dict[tuple[int, Way], deque[float]] = {}
        self._medians: dict[tuple[int, Way], float] = {}

    def add(self, num_rows: int, way: Way, seconds: float) -> None:
        """Learn from a pass; the first of a kind does not count, since it may have been compiled or planned for."""
        key = size_class(num_rows), way
        times = self._times.get(key)
        if times is None:
            self._times[key] = deque(maxlen=_NUM_KEPT)
            return
        times.append(seconds)
        if len(times) >= _NUM_NEEDED:
            self._medians[key] = median(times)
        if way == Way(1) and seconds < (self.measured(num_rows, PLAIN) or 0):
            self.add(num_rows, PLAIN, seconds)  # which computes the same, and waits for less

    def measured(self, num_rows: int, way: Way) -> float | None:
        """None if too few were."""
        return self._medians.get((size_class(num_rows), way))

    def expected(self, num_rows: int, way: Way, plain: float) -> float:
        """What was measured, or a guess from other widths, other numbers of rows, or a plain step's ``plain``."""
        if (seconds := self.measured(num_rows, way)) is not None:
            return seconds
        known = {
            width: seconds
            for width in WIDTHS
            if (seconds := self.measured(num_rows, Way(width, way.by_model))) is not None
        }
        if known:
            return _between({0: plain, **known}, way.width, grows=way.by_model)
        size = size_class(num_rows)
        elsewhere = {
            abs(other - size): seconds / self._medians[other, PLAIN]
            for (other, each), seconds in self._medians.items()
            if each == way and (other, PLAIN) in self._medians
        }
        if elsewhere:
            return plain * elsewhere[min(elsewhere)]
        return plain * (1 + (way.width - 1) * (_DRAFTED_SHARE if way.by_model else _READ_SHARE))


class Meter:
    """Times a lane's passes, from one reading of tokens to the next."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        # How the pass before was made, and when it was read; None where the draft model was reading beside.
        self._before: tuple[Way | None, float] | None = None

    def lap(
        self,
        num_rows: int,
        way: Way,
        now: float,
        *,
        num_tokens: float,
        by_model: bool,
        is_quiet: bool,
        has_read: bool = False,
    ) -> None:
        """A pass has been read.

        Args:
            num_rows: of the lane.
            way: the pass's.
            now: ``time.perf_counter()``.
            num_tokens: that it gave a row.
            by_model: whether the draft model takes part where anything is drafted.
            is_quiet: nothing but steps of this lane takes time, and what the draft model reads.
            has_read: it has read contexts meanwhile.
        """
        own = None if has_read else way
        before, self._before = self._before, (own, now) if is_quiet else None
        if not is_quiet or before is None:
            return
        seconds, plain = now - before[1], self._costs.measured(num_rows, PLAIN)
        if own == before[0] == PLAIN:
            self._costs.ledger.book(num_rows, _LOST_SHARE, by_model=by_model)
        elif plain is not None:
            self._costs.ledger.book(num_rows, num_tokens - seconds / plain, by_model=by_model)
        # The first plain step behind a pass, and the first pass behind a plain step, are partly over before they count.
        if own is not None and before[0] is not None and (own == PLAIN) == (before[0] == PLAIN):
            self._costs.add(num_rows, own, seconds)


def size_class(num_rows: int) -> int:
    """Numbers of rows that take about the same have one: 1, 2, 3, 4, 5 to 6, 7 to 8, 9 to 12, 13 to 16, and so on."""
    octave = (num_rows - 1).bit_length()
    return 2 * octave - (octave > 1 and num_rows <= 3 << octave - 2)


def _between(known: dict[int, float], width: int, *, grows: bool) -> float:
    """On the line between the nearest points; beyond the last one on the last line if it grows, else as much as that."""
    below = max(each for each in known if each < width)
    above = min((each for each in known if each > width), default=None)
    if above is not None:
        return known[below] + (known[above] - known[below]) * (width - below) / (above - below)
    if not grows:
        return known[below]
    before = max(each for each in known if each < below)
    return known[below] + max(0.0, known[below] - known[before]) * (width - below) / (below - before)


class Payoff:
    """Decides for the rows of a lane, step by step; begins with plain ones.

    Attributes:
        is_drafting: as of the last decision.
    """

    def __init__(self, costs: Costs) -> None:
        self.is_drafting = False
        self._costs = costs
        self._is_better = False  # whether drafting is, as far as is known
        self._num_left = 0  # steps until the next decision
        self._num_since = 0  # and since both ways were known
        self._patience = _LEAST_PATIENCE

    def decide(self, num_rows: int, prospects: Callable[[], Sequence[Prospect]], *, by_model: bool) -> bool:
        """Whether to draft in the next step.

        Args:
            num_rows: of the lane, those among them that draft nothing.
            prospects: of the rows that may draft; asked only if there is something to decide.
            by_model: whether the draft model would take part.
        """
        self._num_since += 1
        self._num_left -= 1
        if self._num_left > 0:
            return self.is_drafting
        plain = self._costs.measured(num_rows, PLAIN)
        if plain is None or not self._costs.ledger.can_afford(num_rows, by_model=by_model):
            self._is_better = False
            return self._go_on(False, _HOLD)
        rows = prospects()
        promise = max(
            self._promise(num_rows, rows, Way(width, by_model), plain) for width in WIDTHS if width > 1
        )
        is_better = promise > (_END if self._is_better else _BEGIN)
        is_change, is_look = is_better != self._is_better, self.is_drafting != self._is_better
        if is_change:
            self._patience = _LEAST_PATIENCE
        elif is_look:
            self._patience = min(2 * self._patience, _MOST_PATIENCE)
        elif self._num_since >= self._patience and (is_better or _may_pay(num_rows, rows, by_model)):
            return self._go_on(not is_better, _LOOK)
        if is_change or is_look:
            self._num_since = 0
        self._is_better = is_better
        return self._go_on(is_better, _HOLD)

    def width(self, num_rows: int, drafts: Sequence[Prospect], *, by_model: bool, room: float = inf) -> int:
        """How many tokens a row the next pass should have; where drafting is only looked at, not one if there is a draft.

        Args:
            num_rows: of the lane.
            drafts: what may be drafted for it.
            by_model: whether the draft model would take part.
            room: the most that the rows have place for.
        """
        most = max((draft.most for draft in drafts), default=0)
        plain = self._costs.measured(num_rows, PLAIN)
        if not most or plain is None or room < WIDTHS[1]:
            return 1

        def rate(width: int) -> float:
            way = Way(width, by_model and width > 1)
            tokens = num_rows + sum(draft.gain(width - 1) for draft in drafts)
            return tokens / self._costs.expected(num_rows, way, plain)

        enough = next(width for width in WIDTHS if width > most)
        widths = [width for width in WIDTHS if width <= min(enough, room)]
        return max(widths if self._is_better else widths[1:], key=rate)

    def _go_on(self, is_drafting: bool, num_steps: int) -> bool:
        self.is_drafting, self._num_left = is_drafting, num_steps
        return is_drafting

    def _promise(self, num_rows: int, rows: Sequence[Prospect], way: Way, plain: float) -> float:
        """Tokens a second, in units of plain steps'."""
        is_any = 1 - prod(1 - row.presence for row in rows)
        tokens = num_rows + sum(row.gain(way.width - 1) for row in rows)
        seconds = is_any * self._costs.expected(num_rows, way, plain)
        seconds += (1 - is_any) * self._costs.expected(num_rows, Way(1), plain)
        return tokens / num_rows * plain / seconds


def _may_pay(num_rows: int, rows: Sequence[Prospect], by_model: bool) -> bool:
    """Whether it would if passes took no longer than plain steps; what a draft model is worth now, nobody knows."""
    gain = sum(row.gain(MAX_DRAFT_TOKENS) for row in rows)
    return by_model or gain > (_BEGIN - 1) * num_rows
