from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from mlxbridge.host.engine.drafts.acceptance import Acceptance, Prospect
from mlxbridge.host.engine.drafts.payoff import PLAIN, WIDTHS, Costs, Ledger, Meter, Payoff, Way, size_class
from mlxbridge.host.engine.interface import MAX_DRAFT_TOKENS


def learn(costs: Costs, num_rows: int, seconds: dict[Way, float]) -> Costs:
    for way, value in seconds.items():
        for _ in range(5):
            costs.add(num_rows, way, value)
    return costs


# -- what passes take


def test_classes_of_sizes() -> None:
    classes: dict[int, list[int]] = {}
    for num_rows in range(1, 65):
        classes.setdefault(size_class(num_rows), []).append(num_rows)
    bounds = [(rows[0], rows[-1]) for rows in classes.values()]
    assert bounds == [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 4),
        (5, 6),
        (7, 8),
        (9, 12),
        (13, 16),
        (17, 24),
        (25, 32),
        (33, 48),
        (49, 64),
    ]
    assert list(classes) == sorted(classes)


def test_the_first_pass_of_a_kind_does_not_count() -> None:
    costs = Costs()
    for seconds in (9.0, 1.0):
        costs.add(5, Way(4), seconds)
    assert costs.measured(5, Way(4)) is None
    costs.add(6, Way(4), 3.0)
    assert costs.measured(5, Way(4)) == costs.measured(6, Way(4)) == 2.0
    assert costs.measured(7, Way(4)) is None


def test_the_latest_passes_count() -> None:
    costs = learn(Costs(), 1, {PLAIN: 1.0})
    for _ in range(9):
        costs.add(1, PLAIN, 4.0)
    assert costs.measured(1, PLAIN) == 4.0


def test_what_was_not_measured_is_guessed() -> None:
    costs = Costs()
    assert costs.expected(1, Way(8), 1.0) == pytest.approx(1.14)
    assert costs.expected(1, Way(8, True), 1.0) == pytest.approx(2.05)
    learn(costs, 1, {PLAIN: 1.0, Way(4): 2.0, Way(16): 5.0})
    assert costs.expected(1, Way(2), 1.0) == pytest.approx(1.5)
    assert costs.expected(1, Way(8), 1.0) == pytest.approx(3.0)
    # Elsewhere only the relation to a plain step is the same.
    assert costs.expected(8, Way(16), 2.0) == pytest.approx(10.0)
    learn(costs, 8, {Way(2): 2.5})
    assert costs.expected(8, Way(16), 2.0) == pytest.approx(2.5)


def test_the_more_a_draft_model_drafts_the_longer_it_takes() -> None:
    costs = learn(Costs(), 1, {PLAIN: 1.0, Way(4, True): 3.0})
    assert costs.expected(1, Way(2, True), 1.0) == pytest.approx(2.0)
    assert costs.expected(1, Way(16, True), 1.0) == pytest.approx(9.0)
    learn(costs, 1, {Way(8, True): 4.0})
    assert costs.expected(1, Way(16, True), 1.0) == pytest.approx(6.0)
    learn(costs, 1, {Way(8, True): 2.0})
    assert costs.expected(1, Way(16, True), 1.0) == pytest.approx(2.0)


def test_a_plain_step_takes_no_longer_than_a_pass_over_as_much() -> None:
    costs = learn(Costs(), 1, {PLAIN: 4.0, Way(1): 5.0})
    assert costs.measured(1, PLAIN) == 4.0
    learn(costs, 1, {Way(1): 2.0})
    assert costs.measured(1, PLAIN) == 2.0
    learn(costs, 1, {PLAIN: 3.0})
    assert costs.measured(1, PLAIN) == 3.0


def test_passes_are_timed_from_reading_to_reading() -> None:
    costs = Costs()
    meter = Meter(costs)

    def lap(way: Way, now: float, *, is_quiet: bool = True) -> None:
        meter.lap(1, way, now, num_tokens=1, by_model=False, is_quiet=is_quiet)

    lap(PLAIN, 0.0)
    for now in (1.0, 2.0, 3.0):
        lap(PLAIN, now)
    assert costs.measured(1, PLAIN) == 1.0
    # Changing over is partly hidden, and what is not quiet takes time of others.
    lap(Way(4), 3.1)
    for now in (5.1, 7.1, 9.1):
        lap(Way(4), now)
    lap(Way(4), 20.0, is_quiet=False)
    lap(Way(4), 30.0)
    assert costs.measured(1, Way(4)) == 2.0
    lap(PLAIN, 30.1)
    lap(PLAIN, 33.1)
    lap(PLAIN, 36.1)
    assert costs.measured(1, PLAIN) == 2.0
    # Each width is timed by its own passes.
    lap(Way(2), 36.2)
    for now, way in (
        (37.2, Way(2)),
        (41.2, Way(8)),
        (42.2, Way(2)),
        (46.2, Way(8)),
        (47.2, Way(2)),
        (51.2, Way(8)),
    ):
        lap(way, now)
    assert (costs.measured(1, Way(2)), costs.measured(1, Way(8))) == (1.0, 4.0)


# -- what drafts have come to


def lose(costs: Costs, num_steps: float, *, by_model: bool = True) -> None:
    costs.ledger.book(1, -num_steps, by_model=by_model)


def test_drafts_that_have_lost_too_much_pause_until_plain_steps_have_made_up_for_it() -> None:
    ledger = Ledger()
    ledger.book(1, 1000.0, by_model=True)  # what was saved once does not count for ever
    ledger.book(1, -100.0, by_model=True)
    assert not ledger.can_afford(1, by_model=True)
    assert ledger.can_afford(1, by_model=False)
    assert ledger.can_afford(2, by_model=True)
    ledger.book(1, 50.0, by_model=True)
    assert ledger.can_afford(1, by_model=True)


def test_all_that_takes_time_for_drafts_is_booked() -> None:
    def left(*laps: tuple[Way, float, float, bool]) -> float:
        """Plain steps of a second that may yet be lost after these: way, seconds, tokens, whether contexts were read."""
        costs = learn(Costs(), 1, {PLAIN: 1.0})
        lose(costs, 60)
        meter, now = Meter(costs), 0.0
        meter.lap(1, PLAIN, now, num_tokens=1, by_model=True, is_quiet=True)
        for way, seconds, num_tokens, has_read in laps:
            now += seconds
            meter.lap(1, way, now, num_tokens=num_tokens, by_model=True, is_quiet=True, has_read=has_read)
        number = 0
        while costs.ledger.can_afford(1, by_model=True):
            lose(costs, 0.25)
            number += 1
        return number / 4

    assert left() == 4
    assert left((PLAIN, 1, 1, True)) == 4
    assert left((PLAIN, 3, 1, True)) == 2
    assert left((Way(4, True), 5, 3, False)) == 2
    assert left((Way(4, True), 2, 4, False)) == 6
    assert left((Way(4, True), 3, 3, False), (PLAIN, 3, 1, False)) == 2
    assert left(*[(PLAIN, 1, 1, False)] * 100) == 6
    assert left((PLAIN, 9, 1, False)) == 4.25  # plain steps lose nothing


# -- decisions


@dataclass
class Machine:
    """Rows whose drafts are right with a chance of their own, on a device that takes so long."""

    seconds: Callable[[Way], float]
    rates: list[float]
    presence: float = 1.0
    by_model: bool = False
    noise: float = 0.0
    dear: tuple[float, float] = (0.0, 0.0)  # how often a pass over drafts takes longer, and by how much
    chance: random.Random = field(default_factory=lambda: random.Random(3))
    clock: float = 0.0
    num_tokens: int = 0
    num_drafting: int = 0

    def run(self, payoff: Payoff, costs: Costs, num_tokens: int) -> float:
        """Until so many more tokens have come; the seconds for each."""
        rows = [Acceptance().of_row() for _ in self.rates]
        start, clock = self.num_tokens, self.clock
        meter = Meter(costs)
        while self.num_tokens - start < num_tokens:
            way, accepted = self.step(payoff, rows)
            seconds = self.seconds(way) * (1 + self.noise * self.chance.random())
            if way.width > 1 and self.dear[0] and self.chance.random() < self.dear[0]:
                seconds += self.dear[1]
            self.clock += seconds
            self.num_tokens += len(rows) + accepted
            self.num_drafting += way is not PLAIN
            meter.lap(
                len(rows),
                way,
                self.clock,
                num_tokens=1 + accepted / len(rows),
                by_model=self.by_model,
                is_quiet=True,
            )
        return (self.clock - clock) / (self.num_tokens - start)

    def step(self, payoff: Payoff, rows: list[Acceptance]) -> tuple[Way, int]:
        expected = [Prospect(row.rate, row.presence, MAX_DRAFT_TOKENS) for row in rows]
        is_drafting = payoff.decide(len(rows), lambda: expected, by_model=self.by_model)
        is_there = [self.chance.random() < self.presence for _ in rows]
        if not is_drafting:
            if not self.by_model:  # lookups are checked against plain steps' tokens, too
                self.draft(rows, is_there, MAX_DRAFT_TOKENS)
            return PLAIN, 0
        drafts = [
            Prospect(row.rate, 1, MAX_DRAFT_TOKENS)
            for row, there in zip(rows, is_there, strict=True)
            if there
        ]
        width = payoff.width(len(rows), drafts, by_model=self.by_model)
        assert width in WIDTHS
        if width == 1:
            return Way(1), 0
        return Way(width, self.by_model), self.draft(rows, is_there, width - 1)

    def draft(self, rows: list[Acceptance], is_there: list[bool], most: int) -> int:
        total = 0
        for row, there, rate in zip(rows, is_there, self.rates, strict=True):
            accepted = 0
            while there and accepted < most and self.chance.random() < rate:
                accepted += 1
            row.record(most if there else 0, accepted)
            total += accepted
        return total


def slow(way: Way) -> float:
    """Each token more is as dear as a step: nothing is gained."""
    return 1.0 if way == PLAIN else 1.2 + 0.5 * way.width + (0.5 * way.width if way.by_model else 0)


def quick(way: Way) -> float:
    return 1.0 if way == PLAIN else 1.1 + 0.03 * way.width + (0.1 * way.width if way.by_model else 0)


@pytest.mark.parametrize("by_model", [False, True])
@pytest.mark.parametrize("presence", [1.0, 0.1])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.6])
def test_where_drafting_cannot_win_it_costs_next_to_nothing(
    rate: float, presence: float, by_model: bool
) -> None:
    for num_rows in (1, 16):
        machine = Machine(slow, [rate] * num_rows, presence, by_model, noise=0.2)
        plain = (1.1 if machine.noise else 1.0) / num_rows
        costs = Costs()
        seconds = machine.run(Payoff(costs), costs, 4000 * num_rows)
        assert seconds < 1.05 * plain


@pytest.mark.parametrize("by_model", [False, True])
@pytest.mark.parametrize("rate", [0.6, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("num_rows", [1, 5])
def test_where_drafting_wins_the_best_width_is_found(rate: float, num_rows: int, by_model: bool) -> None:
    def tokens(width: int) -> float:
        return 1 + Prospect(rate, 1, MAX_DRAFT_TOKENS).gain(width - 1)

    best = min(quick(Way(width, by_model)) / tokens(width) for width in WIDTHS[1:]) / num_rows
    machine = Machine(quick, [rate] * num_rows, by_model=by_model, noise=0.1)
    costs = Costs()
    seconds = machine.run(Payoff(costs), costs, 10_000 * num_rows)
    assert seconds < 1.15 * best
    assert seconds < 0.8 / num_rows


@pytest.mark.parametrize("by_model", [False, True])
@pytest.mark.parametrize("dear", [(0.1, 40.0), (0.04, 100.0), (0.5, 5.0)])
def test_what_is_dear_now_and_then_is_not_overlooked(dear: tuple[float, float], by_model: bool) -> None:
    costs = Costs()
    machine = Machine(quick, [0.8], by_model=by_model, noise=0.1, dear=dear)
    for _ in range(40):
        machine.run(Payoff(costs), costs, 256)
    assert machine.clock < 1.06 * 1.05 * 40 * 256


@pytest.mark.parametrize("by_model", [False, True])
def test_an_answer_begins_with_what_was_learnt_from_the_one_before(by_model: bool) -> None:
    costs = Costs()
    machine = Machine(slow, [0.8], by_model=by_model)
    for _ in range(40):
        machine.run(Payoff(costs), costs, 256)
    assert machine.clock < 1.05 * 40 * 256


def test_one_row_of_many_that_drafts_well_is_not_worth_the_others_time() -> None:
    costs = Costs()
    machine = Machine(slow, [0.95, *[0.0] * 15])
    assert machine.run(Payoff(costs), costs, 50_000) < 1.05 / 16


def test_drafting_stops_when_more_rows_make_passes_dear_and_comes_back_afterwards() -> None:
    costs = Costs()
    payoff = Payoff(costs)
    for num_rows, seconds, is_drafting in ((1, quick, True), (16, slow, False), (1, quick, True)):
        Machine(seconds, [0.8] * num_rows).run(payoff, costs, 3000 * num_rows)
        later = Machine(seconds, [0.8] * num_rows)
        later.run(payoff, costs, 1000)
        assert (later.num_drafting > 0.9 * later.num_tokens / (5 * num_rows)) == is_drafting


def test_text_that_begins_to_repeat_is_noticed_within_a_few_tokens() -> None:
    costs = Costs()
    payoff = Payoff(costs)
    Machine(quick, [0.05], presence=0.2).run(payoff, costs, 3000)
    assert not payoff.is_drafting
    machine = Machine(quick, [0.95])
    machine.run(payoff, costs, 60)
    assert machine.clock < 40


def test_plain_steps_are_looked_at_again_and_taken_if_they_have_become_better() -> None:
    costs = Costs()
    payoff = Payoff(costs)
    Machine(quick, [0.7], by_model=True).run(payoff, costs, 2000)
    assert payoff.is_drafting
    machine = Machine(lambda way: 0.2 if way == PLAIN else quick(way), [0.7], by_model=True)
    machine.run(payoff, costs, 10_000)
    assert not payoff.is_drafting and machine.clock < 0.25 * 10_000


def test_nothing_is_drafted_before_plain_steps_are_known() -> None:
    payoff = Payoff(Costs())

    def prospects() -> list[Prospect]:
        raise AssertionError("asked for nothing")

    assert not any(payoff.decide(4, prospects, by_model=True) for _ in range(50))


def test_width_takes_in_no_more_than_the_longest_draft() -> None:
    costs = learn(Costs(), 2, {PLAIN: 1.0})
    payoff = Payoff(costs)
    drafts = [Prospect(0.9, 1, 3), Prospect(0.9, 1, 0)]
    assert payoff.decide(2, lambda: drafts, by_model=False)
    assert payoff.width(2, drafts, by_model=False) == 4
    assert payoff.width(2, [Prospect(0.9, 1, 0)], by_model=False) == 1
    assert payoff.width(2, [], by_model=False) == 1
    assert payoff.width(2, [Prospect(0.0, 1, 3)], by_model=False) == 1
