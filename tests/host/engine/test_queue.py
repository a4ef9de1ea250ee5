"""The queue against a clock of its own, where each place lasts as long as its call has tokens."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlxbridge.errors import Overloaded
from mlxbridge.host.engine.interface import GUEST_SHARE
from mlxbridge.host.engine.queue import DRAWN_WEIGHT, LOWEST, PRIORITIES, TURN, Queue, Ticket
from mlxbridge.types import Priority


def add(
    queue: Queue[str],
    item: str,
    *,
    guest: str = "a",
    priority: Priority = "normal",
    num_tokens: int = 10,
    num_free: int = 0,
    now: float = 0,
) -> Ticket[str]:
    return queue.add(item, guest=guest, priority=priority, num_tokens=num_tokens, num_free=num_free, now=now)


def take(queue: Queue[str]) -> Ticket[str]:
    ticket = queue.next()
    assert ticket is not None
    queue.take(ticket)
    return ticket


def serve(queue: Queue[str], num_drawn: int = 0) -> str:
    """Take the next one, and let it run to its end."""
    ticket = take(queue)
    ticket.charge(num_drawn)
    queue.close(ticket, 0)
    return ticket.item


def make(max_waiting: int = 1000) -> Queue[str]:
    return Queue("tiny", max_waiting=max_waiting)


def test_one_guest_is_served_in_order_of_arrival() -> None:
    queue = make()
    for number in range(20):
        add(queue, str(number), num_tokens=1 + number % 3)
    assert [serve(queue, 5) for _ in range(20)] == [str(number) for number in range(20)]
    assert queue.next() is None and not len(queue)


def test_high_goes_first_but_leaves_every_eighth_place() -> None:
    queue = make()
    for number in range(200):
        for priority in PRIORITIES:
            add(queue, priority, guest=str(number), priority=priority)
    served = "".join(serve(queue)[0] for _ in range(2 * TURN * TURN))
    assert served[:TURN] == "h" * (TURN - 1) + "n"
    assert Counter(served) == {"h": 2 * TURN * (TURN - 1), "n": 2 * (TURN - 1), "l": 2}
    assert max(map(len, served.split("n"))) < 2 * TURN


def test_places_given_while_nobody_else_waited_do_not_count() -> None:
    queue = make()
    for _ in range(20):
        add(queue, "high", priority="high")
    for _ in range(10):
        serve(queue)
    add(queue, "low", priority="low")
    assert [serve(queue) for _ in range(TURN)] == ["high"] * (TURN - 1) + ["low"]


def test_lower_classes_are_due_no_place_while_they_have_an_eighth() -> None:
    queue = make()
    low = [add(queue, "low", priority="low") for _ in range(4)]
    for _ in range(2):
        take(queue)
    for _ in range(4 * TURN):
        add(queue, "normal")
    # Beside fourteen normal ones two are an eighth.
    assert [take(queue).item for _ in range(2 * TURN)] == ["normal"] * (2 * TURN - 1) + ["low"]
    assert [take(queue).item for _ in range(TURN - 1)] == ["normal"] * (TURN - 1)
    queue.close(low[0], 0)
    assert take(queue).item == "low"


def test_only_low_calls_in_places_that_nobody_else_waited_for_give_way() -> None:
    queue = make()
    for priority in PRIORITIES:
        add(queue, priority, priority=priority)
    high, normal, low = (take(queue) for _ in PRIORITIES)
    assert [ticket.gives_way for ticket in (high, normal, low)] == [False, False, True]
    queue.put_back(low)
    assert not low.gives_way and queue.num_yielding == 0
    for _ in range(TURN):
        add(queue, "normal")
    while take(queue) is not low:
        pass
    assert not low.gives_way, "its place was its due"


def test_guest_with_few_calls_does_not_wait_for_one_with_many() -> None:
    queue = make()
    for _ in range(100):
        add(queue, "many", guest="many")
    for _ in range(5):
        serve(queue, 50)
    for _ in range(3):
        add(queue, "few", guest="few")
    assert [serve(queue, 50) for _ in range(6)] == ["few", "many"] * 3


def test_guests_get_equal_tokens_not_equal_calls() -> None:
    queue = make(2000)
    for _ in range(500):
        add(queue, "long", guest="long", num_tokens=100)
        add(queue, "short", guest="short", num_tokens=10)
    got = Counter[str]()
    for _ in range(440):
        item = serve(queue, 200 if queue_is_long(queue) else 20)
        got[item] += 1
    assert abs(got["short"] - 10 * got["long"]) <= 10


def queue_is_long(queue: Queue[str]) -> bool:
    ticket = queue.next()
    assert ticket is not None
    return ticket.item == "long"


def test_idling_earns_no_credit() -> None:
    queue = make()
    add(queue, "idler", guest="idler")
    serve(queue)
    for _ in range(50):
        add(queue, "busy", guest="busy")
    keeps_busy = take(queue)
    for _ in range(20):
        serve(queue, 100)
    for _ in range(20):
        add(queue, "idler", guest="idler")
    served = [serve(queue, 100) for _ in range(20)]
    assert 9 <= served.count("idler") <= 11
    queue.close(keeps_busy, 0)


def test_running_calls_are_charged_while_they_run() -> None:
    queue = make()
    for number in range(4):
        add(queue, f"a{number}", guest="a")
        add(queue, f"b{number}", guest="b")
    first = take(queue)
    second = take(queue)
    assert {first.item, second.item} == {"a0", "b0"}
    first.charge(1000)
    assert {take(queue).item[0] for _ in range(3)} == {second.item[0]}


def test_put_back_is_first_among_its_guests_and_pays_once() -> None:
    queue = make()
    for number in range(4):
        add(queue, str(number), num_tokens=7)
    taken = [take(queue) for _ in range(3)]
    served = taken[0].account.num_served
    for ticket in reversed(taken[1:]):
        queue.put_back(ticket)
    assert [take(queue).item for _ in range(3)] == ["1", "2", "3"]
    assert taken[0].account.num_served == served + 7


def test_seniority_lets_the_newest_of_the_lowest_class_give_way() -> None:
    queue = make()
    tickets = [add(queue, p, priority=p) for p in ("low", "high", "low", "normal")]
    assert sorted(tickets, key=lambda ticket: ticket.seniority)[-1] is tickets[2]


def test_full_queue_refuses_and_free_places_do_not_count_as_waiting() -> None:
    queue = make(2)
    for number in range(5):
        add(queue, "x", guest=str(number), num_free=3)
    with pytest.raises(
        Overloaded,
        match=r"5 calls wait, and 2 may beside 3 that can begin \(--max-waiting\); try again in 1\.0 s",
    ) as caught:
        add(queue, "x", guest="new", num_free=3)
    assert caught.value.retryable and caught.value.retry_after == 1.0
    add(queue, "x", guest="new", num_free=4)


def test_one_guest_cannot_fill_the_queue() -> None:
    queue = make(100)
    for _ in range(75):
        add(queue, "x", guest="greedy")
    with pytest.raises(Overloaded, match="75 calls of this guest's wait"):
        add(queue, "x", guest="greedy")
    for number in range(20):
        add(queue, "x", guest=f"modest {number}")


def test_calls_of_lower_classes_take_no_room() -> None:
    queue = make(4)
    for number in range(4):
        add(queue, "low", guest=str(number % 2), priority="low")
    with pytest.raises(Overloaded, match="4 calls wait, and 4 may"):
        add(queue, "low", guest="new", priority="low")
    for _ in range(3):
        add(queue, "normal", guest="0")
    with pytest.raises(Overloaded, match="3 calls of this guest's wait"):
        add(queue, "normal", guest="0")
    add(queue, "normal", guest="new")
    with pytest.raises(Overloaded, match="4 calls wait, and 4 may"):
        add(queue, "normal", guest="1")
    add(queue, "high", guest="1", priority="high")


def test_prompt_tokens_are_bounded_but_one_call_may_have_any_number() -> None:
    queue: Queue[str] = Queue("tiny", max_waiting=100, max_tokens=1000)
    big = add(queue, "big", num_tokens=5000)
    with pytest.raises(Overloaded):
        add(queue, "x", guest="b", num_tokens=1)
    queue.close(big, 0)
    add(queue, "x", guest="a", num_tokens=800)
    with pytest.raises(Overloaded, match="800 prompt tokens of this guest's wait"):
        add(queue, "x", guest="a", num_tokens=1)
    add(queue, "x", guest="b", num_tokens=200)


def test_retry_after_follows_how_fast_calls_end() -> None:
    queue = make()
    assert queue.retry_after(0.0) == 1.0
    for number in range(100):
        add(queue, "x", guest=str(number))
    for second in range(20):
        queue.close(take(queue), now=2.0 * second)
    # One call in two seconds, 80 wait.
    assert queue.retry_after(38.0) == pytest.approx(2.0 * 80 / 8, rel=0.1)
    assert queue.retry_after(380.0) == 60.0
    for _ in range(80):
        queue.close(take(queue), now=38.0)
    assert queue.retry_after(38.0) == 0.1


class Machine(RuleBasedStateMachine):
    """Any order of calls: bounds hold, nobody is lost, a guest's calls of one class keep their order."""

    max_waiting = 12

    def __init__(self) -> None:
        super().__init__()
        self.queue: Queue[int] = Queue("tiny", max_waiting=self.max_waiting, max_tokens=100)
        self.waiting: dict[int, Ticket[int]] = {}
        self.running: dict[int, Ticket[int]] = {}
        self.put_back: set[int] = set()
        self.number = 0

    @rule(guest=st.sampled_from("abc"), priority=st.sampled_from(PRIORITIES), num_tokens=st.integers(1, 40))
    def add(self, guest: str, priority: Priority, num_tokens: int) -> None:
        rank = PRIORITIES.index(priority)
        above = [ticket for ticket in self.waiting.values() if ticket.rank <= rank]
        held = [ticket for ticket in above if ticket.guest == guest]
        free = self.max_waiting - len(above)
        try:
            ticket = self.queue.add(
                self.number, guest=guest, priority=priority, num_tokens=num_tokens, num_free=0, now=0
            )
        except Overloaded:
            tokens = sum(ticket.num_tokens for ticket in self.waiting.values())
            own = sum(ticket.num_tokens for ticket in self.waiting.values() if ticket.guest == guest)
            assert (
                free <= 0
                or len(held) >= GUEST_SHARE * free
                or tokens + num_tokens > 100
                or own > GUEST_SHARE * (100 - tokens)
            )
        else:
            assert free > 0 and len(held) < GUEST_SHARE * free
            self.waiting[self.number] = ticket
            self.number += 1

    @precondition(lambda self: self.waiting)
    @rule()
    def take(self) -> None:
        ticket = self.queue.next()
        assert ticket is not None and self.waiting.pop(ticket.item) is ticket
        alike = [t for t in self.waiting.values() if (t.guest, t.rank) == (ticket.guest, ticket.rank)]
        assert all(ticket.number < other.number for other in alike)
        same_class = [t for t in self.waiting.values() if t.rank == ticket.rank]
        assert all(ticket.account.num_served <= other.account.num_served for other in same_class)
        self.queue.take(ticket)
        self.running[ticket.item] = ticket
        others = [t for t in self.waiting.values() if t.rank < ticket.rank]
        assert ticket.gives_way == (ticket.rank == LOWEST and not others)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), num_drawn=st.integers(1, 20))
    def draw(self, data: st.DataObject, num_drawn: int) -> None:
        ticket = self.running[data.draw(st.sampled_from(sorted(self.running)))]
        before = ticket.account.num_served
        ticket.charge(num_drawn)
        assert ticket.account.num_served == before + DRAWN_WEIGHT * num_drawn

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def wait_again(self, data: st.DataObject) -> None:
        ticket = self.running.pop(data.draw(st.sampled_from(sorted(self.running))))
        self.queue.put_back(ticket)
        self.waiting[ticket.item] = ticket

    @precondition(lambda self: self.running or self.waiting)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        either = {**self.running, **self.waiting}
        item = data.draw(st.sampled_from(sorted(either)))
        self.queue.close(either[item], 0)
        self.running.pop(item, None)
        self.waiting.pop(item, None)

    @invariant()
    def counts_are_right(self) -> None:
        assert len(self.queue) == len(self.waiting)
        assert (self.queue.next() is None) == (not self.waiting)
        assert self.queue.num_yielding == sum(t.gives_way for t in self.running.values())
        assert not any(t.gives_way for t in self.waiting.values())
        for rank, priority in enumerate(PRIORITIES):
            assert self.queue.count()[priority] == sum(t.rank == rank for t in self.waiting.values())


TestMachine = Machine.TestCase


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 50), st.integers(0, 50)), max_size=60))
def test_no_two_waiting_guests_differ_by_more_than_one_call(calls: list[tuple[str, int, int]]) -> None:
    queue: Queue[int] = Queue("tiny", max_waiting=1000)
    for guest, num_tokens, num_drawn in calls:
        queue.add(num_drawn, guest=guest, priority="normal", num_tokens=num_tokens, num_free=0, now=0)
    served = Counter[str]()
    backlog = Counter(guest for guest, _, _ in calls)
    while (ticket := queue.next()) is not None:
        queue.take(ticket)
        ticket.charge(ticket.item)
        queue.close(ticket, 0)
        served[ticket.guest] += ticket.num_tokens + DRAWN_WEIGHT * ticket.item
        backlog[ticket.guest] -= 1
        busy = [served[guest] for guest in backlog if backlog[guest]]
        if busy:
            assert max(busy) - min(busy) <= 50 + DRAWN_WEIGHT * 50


def test_guests_that_are_gone_are_forgotten_in_the_end() -> None:
    queue = make()
    add(queue, "stays", guest="stays")
    stays = take(queue)
    for number in range(5000):
        add(queue, "x", guest=f"connection {number}")
        serve(queue, 10)
    accounts = queue._classes[1].accounts
    assert len(accounts) <= 1100 and "stays" in accounts
    queue.close(stays, 0)
    assert not accounts
