"""Who comes and who goes, on a clock that the test turns."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import inf
from typing import Any

import pytest

from mlxbridge.host.models.residency import Decision, Residency


def residency(budget: int = 10, **others: float) -> Residency:
    return Residency(budget, **{"tenure_s": 10.0, "grace_s": 0.5, **others})


def ask(
    rooms: Residency, name: str, num_bytes: int = 4, *, pin: bool = False, keep: float | None = None
) -> None:
    rooms.ask(name, num_bytes, is_pinned=pin, keep_alive_s=keep)


def settle(rooms: Residency, now: float, *names: str, busy: bool = False) -> Decision:
    """Ask for room for each, and let those that get it be ready at once."""
    for name in names:
        ask(rooms, name)
    decision = rooms.decide(now)
    for name in decision.admitted:
        rooms.begin_turn(name, now, is_busy=busy)
    return decision


def test_models_that_fit_together_are_admitted_in_order_and_stay() -> None:
    rooms = residency()
    assert settle(rooms, 0, "a", "b").admitted == ["a", "b"]
    assert rooms.reserved_bytes == 8
    assert rooms.decide(1e9) == Decision()


def test_least_recently_used_idle_model_makes_way() -> None:
    rooms = residency()
    settle(rooms, 0, "a", "b")
    rooms.set_busy("a", 1, is_busy=True)
    rooms.set_busy("a", 2, is_busy=False)
    assert settle(rooms, 3, "c").leaving == ["b"]
    assert rooms.reserved_bytes == 8  # until its process has ended
    assert rooms.decide(4) == Decision()
    rooms.leave("b")
    assert rooms.decide(5).admitted == ["c"]


def test_model_that_was_used_a_moment_ago_is_given_time_for_the_next_call() -> None:
    rooms = residency()
    settle(rooms, 0, "a", "b", busy=True)
    rooms.set_busy("a", 5, is_busy=False)
    assert settle(rooms, 5, "c").wake_at == 5.5
    rooms.set_busy("a", 5.2, is_busy=True)
    assert rooms.decide(5.5).wake_at == 10  # a's turn, or b's, is over
    rooms.set_busy("a", 5.6, is_busy=False)
    assert rooms.decide(6.1).leaving == ["a"]


def test_model_with_work_makes_way_after_its_turn_the_longest_first() -> None:
    rooms = residency()
    settle(rooms, 0, "a", busy=True)
    settle(rooms, 1, "b", busy=True)
    assert settle(rooms, 2, "c").wake_at == 10
    assert rooms.decide(9.9).leaving == []
    assert rooms.decide(10).leaving == ["a"]
    ask_again = rooms.decide(11)
    assert (ask_again.leaving, ask_again.wake_at) == ([], inf)  # one is enough
    rooms.leave("a")
    ask(rooms, "a")  # its own calls wait: it is behind
    decision = rooms.decide(12)
    assert (decision.admitted, decision.leaving) == (["c"], ["b"])


def test_models_that_are_loading_are_waited_for() -> None:
    rooms = residency()
    ask(rooms, "a", 10)
    assert rooms.decide(0).admitted == ["a"]
    decision = settle(rooms, 1, "b")
    assert (decision.leaving, decision.wake_at) == ([], inf)
    rooms.begin_turn("a", 5, is_busy=False)
    assert rooms.decide(5).wake_at == 5.5


def test_nobody_overtakes_the_first_in_line() -> None:
    rooms = residency()
    settle(rooms, 0, "a", busy=True)
    ask(rooms, "large", 9)
    ask(rooms, "small", 1)
    assert rooms.decide(0).admitted == []
    assert rooms.waiting == ["large", "small"]
    rooms.leave("large")  # whoever wanted it has gone
    assert rooms.decide(0).admitted == ["small"]


def test_no_more_models_leave_than_it_takes() -> None:
    rooms = residency()
    ask(rooms, "small", 1)
    ask(rooms, "large", 8)
    rooms.decide(0)
    for name in ("small", "large"):
        rooms.begin_turn(name, 0, is_busy=False)
    rooms.set_busy("large", 1, is_busy=False)  # small is the least recently used, but not enough
    ask(rooms, "b", 9)
    assert rooms.decide(5).leaving == ["large"]


def test_pinned_model_stays_and_who_does_not_fit_beside_it_is_refused() -> None:
    rooms = residency()
    ask(rooms, "a", pin=True, keep=0)
    settle(rooms, 0)
    settle(rooms, 0, "b")
    assert rooms.expires_at("a") == inf
    ask(rooms, "large", 7)
    decision = settle(rooms, 100, "c")
    assert (decision.refused, decision.leaving) == ([("large", 6)], ["b"])


def test_model_expires_so_long_after_its_last_call() -> None:
    rooms = residency()
    ask(rooms, "a", keep=30)
    settle(rooms, 0)
    rooms.set_busy("a", 10, is_busy=True)
    assert rooms.decide(1000).wake_at == inf
    rooms.set_busy("a", 1000, is_busy=False)
    assert rooms.decide(1000).wake_at == rooms.expires_at("a") == 1030
    rooms.keep_alive("a", 5)
    assert rooms.decide(1004).wake_at == 1005
    assert rooms.decide(1005).leaving == ["a"]
    rooms.leave("a")
    assert rooms.decide(1006) == Decision()


def test_keep_alive_of_nothing_ends_a_model_with_its_last_call() -> None:
    rooms = residency()
    settle(rooms, 0, "a", busy=True)
    rooms.keep_alive("a", 0)
    assert rooms.decide(1).leaving == []
    rooms.set_busy("a", 2, is_busy=False)
    assert rooms.decide(2).leaving == ["a"]


def test_room_that_is_taken_only_if_it_is_free() -> None:
    rooms = residency()
    now: dict[str, Any] = {"is_pinned": False, "keep_alive_s": None}
    assert rooms.ask_now("a", 6, **now)
    assert not rooms.ask_now("b", 6, **now)
    ask(rooms, "c", 6)
    assert not rooms.ask_now("d", 1, **now)  # there is room, but not before c
    assert rooms.waiting == ["c"]
    with pytest.raises(ValueError, match="c has asked already"):
        ask(rooms, "c")


def test_crash_does_not_begin_a_turn_anew() -> None:
    rooms = residency()
    settle(rooms, 0, "a", "b", busy=True)
    rooms.begin_turn("a", 8, is_busy=True)
    settle(rooms, 8, "c")
    assert rooms.decide(10).leaving == ["a"]


class World:
    """Models that ask, load, work, end and leave at random; ``check`` holds whatever happens."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.budget = 12
        self.sizes = {f"m{i}": self.random.randint(1, 12) for i in range(self.random.randint(2, 7))}
        self.pinned = {name for name in self.sizes if self.random.random() < 0.08}
        self.rooms = residency(self.budget, tenure_s=3.0, grace_s=1.0)
        self.now = 0.0
        self.waiting: dict[str, int] = {}  # model: turns that others have begun since it asked
        self.loading: set[str] = set()
        self.busy: dict[str, bool] = {}
        self.leaving: set[str] = set()
        self.began_at: dict[str, float] = {}

    def keep_alive_s(self) -> float | None:
        return self.random.choice([None, 0.0, 2.0, 20.0])

    def ask(self, name: str) -> None:
        self.rooms.ask(
            name, self.sizes[name], is_pinned=name in self.pinned, keep_alive_s=self.keep_alive_s()
        )
        self.waiting[name] = 0

    def decide(self) -> None:
        decision = self.rooms.decide(self.now)
        for name, _ in decision.refused:
            del self.waiting[name]
            del self.sizes[name]
        for name in decision.admitted:
            assert next(iter(self.waiting)) == name, "out of turn"
            del self.waiting[name]
            self.loading.add(name)
            for other in self.waiting:
                self.waiting[other] += 1
        for name in decision.leaving:
            assert name not in self.pinned
            assert not self.busy[name] or self.now - self.began_at[name] >= 3.0, "cut short"
            assert name not in self.leaving
            self.leaving.add(name)
        assert decision.wake_at > self.now or decision.wake_at == inf
        held = sum(self.sizes[name] for name in {*self.loading, *self.busy})
        assert held == self.rooms.reserved_bytes <= self.budget
        assert list(self.waiting) == self.rooms.waiting
        assert max(self.waiting.values(), default=0) <= len(self.sizes), "passed over"

    def act(self, *, always_busy: bool) -> None:
        """One thing happens, then some time passes."""
        chance = self.random
        present = {*self.loading, *self.busy, *self.waiting}
        deeds: list[Callable[[], None]] = [
            lambda: self.ask(chance.choice(sorted(set(self.sizes) - present))),
            lambda: self.become_ready(chance.choice(sorted(self.loading)), always_busy),
            lambda: self.change_work(chance.choice(sorted(self.busy)), always_busy),
            lambda: self.go(chance.choice(sorted(self.leaving))),
            lambda: self.give_up(chance.choice(sorted(self.waiting)), always_busy),
        ]
        possible = [
            len(present) < len(self.sizes),
            self.loading,
            self.busy,
            self.leaving,
            self.waiting,
        ]
        chosen = [deed for deed, is_possible in zip(deeds, possible, strict=True) if is_possible]
        if chosen:
            chance.choice(chosen)()
        self.now += chance.choice([0.0, 0.125, 1.0, 5.0])
        self.decide()

    def become_ready(self, name: str, is_busy: bool) -> None:
        self.loading.remove(name)
        self.began_at[name] = self.now
        self.busy[name] = is_busy or self.random.random() < 0.5
        self.rooms.begin_turn(name, self.now, is_busy=self.busy[name])

    def change_work(self, name: str, always_busy: bool) -> None:
        if name not in self.leaving:  # takes no more calls
            self.busy[name] = always_busy or not self.busy[name]
            self.rooms.set_busy(name, self.now, is_busy=self.busy[name])
            self.rooms.keep_alive(name, self.keep_alive_s())

    def go(self, name: str) -> None:
        """Its calls have ended, and so has its process."""
        self.leaving.remove(name)
        del self.busy[name], self.began_at[name]
        self.rooms.leave(name)

    def give_up(self, name: str, always_busy: bool) -> None:
        if not always_busy:
            self.rooms.leave(name)
            del self.waiting[name]


@pytest.mark.parametrize("always_busy", [False, True])
def test_never_over_budget_never_out_of_turn_whatever_happens(always_busy: bool) -> None:
    for seed in range(1000):
        world = World(seed)
        for _ in range(120):
            world.act(always_busy=always_busy)


def test_each_model_gets_its_turn_though_all_have_work_for_ever() -> None:
    for seed in range(300):
        world = World(seed)
        world.pinned.clear()
        asked_at: dict[str, float] = {}
        num_turns = 0
        while world.now < 200:
            for name in sorted(set(world.sizes) - {*world.waiting, *world.loading, *world.busy}):
                world.ask(name)
                asked_at[name] = world.now
            world.decide()
            for name in sorted(world.loading):
                world.become_ready(name, True)
                num_turns += 1
                # Whoever is before it has a turn of 3, and as many again until all have left and have been loaded.
                assert world.now - asked_at[name] <= 6 * len(world.sizes)
            for name in sorted(world.leaving):
                world.go(name)
            world.now += 1.0
        assert sum(world.sizes.values()) <= world.budget or num_turns > 20
