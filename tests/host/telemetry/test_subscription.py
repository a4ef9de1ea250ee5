"""Subscriptions: what is lost, what is seen, and when something is sent; without a connection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from mlxbridge.errors import Overloaded, Unavailable
from mlxbridge.host.telemetry.events import KINDS, MAX_OF_ONE_GUEST, MAX_SUBSCRIBERS, Event, Events
from mlxbridge.host.telemetry.subscription import MAX_WAITING, Subscription


class Call:
    """The call of a guest that subscribed, and what is to be done later."""

    def __init__(
        self, *kinds: str, identity: str | None = None, guest: str = "a", credit: int = 1 << 20
    ) -> None:
        self.items: list[dict[str, Any]] = []
        self.held = 0
        self.is_finished = False
        self.todo: list[Callable[[], object]] = []
        self.identity = identity
        self.sees: Callable[[Event], bool] = lambda event: True
        self.subscription = Subscription(
            kinds or KINDS, lambda event: self.sees(event), guest, self, self.todo.append
        )
        self.subscription.grant(credit)

    def send(self, item: Any) -> None:
        self.items.append(item)

    def num_held(self) -> int:
        return self.held

    def finish(self) -> None:
        self.is_finished = True

    def turn(self) -> list[Any]:
        """The numbers, or the counts, of what is sent in one turn of the loop."""
        todo, self.todo[:] = list(self.todo), []
        for do in todo:
            do()
        items, self.items = self.items, []
        return [item["number"] if "number" in item else f"{item['count']} {item['event']}" for item in items]


def publish(events: Events, count: int, *, kind: str = "request", owner: str | None = None) -> None:
    for number in range(count):
        events.publish(kind, {"number": number}, owner=owner)


def rig(*calls: Call) -> Events:
    events = Events()
    for call in calls:
        call.sees = partial(events.sees, call.identity)
        events.add(call.subscription)
    return events


def test_nothing_is_sent_while_somebody_tells_and_one_turn_is_enough() -> None:
    call = Call()
    publish(rig(call), 3)
    assert call.items == [] and len(call.todo) == 1
    assert call.turn() == [0, 1, 2]


def test_who_does_not_read_loses_the_oldest_and_is_told_how_many() -> None:
    call = Call(credit=2)
    events = rig(call)
    publish(events, MAX_WAITING + 5)
    assert call.turn() == ["5 lost", 5]
    publish(events, 3)
    assert call.turn() == []
    call.subscription.grant(4)
    assert call.turn() == ["2 lost", 8]
    call.subscription.grant(1 << 20)
    assert call.turn() == [*range(9, MAX_WAITING + 5), 0, 1, 2]


def test_what_the_connection_holds_back_counts_as_unread() -> None:
    call = Call()
    events = rig(call)
    call.held = 64
    publish(events, MAX_WAITING + 1)
    assert call.turn() == []
    call.held = 0
    call.subscription.grant(1 << 20)
    assert call.turn() == ["1 lost", *range(1, MAX_WAITING + 1)]


def test_only_what_was_asked_for_is_told() -> None:
    call = Call("model", "gone")
    events = rig(call)
    publish(events, 2, kind="request")
    publish(events, 1, kind="model")
    assert call.turn() == [0]


def test_other_tokens_calls_are_nobodys_to_see() -> None:
    alice, bob, anyone = Call(identity="alice"), Call(identity="bob"), Call()
    events = rig(alice, bob, anyone)
    publish(events, 1, owner="alice")
    assert (alice.turn(), bob.turn(), anyone.turn()) == ([0], [], [0])
    publish(events, 1, kind="model")
    assert (alice.turn(), bob.turn(), anyone.turn()) == ([0], [0], [0])


def test_observers_see_what_others_do_for_as_long_as_they_are() -> None:
    alice, bob = Call(identity="alice"), Call(identity="bob")
    events = rig(alice, bob)
    events.observers = {"bob"}
    publish(events, 1, owner="alice")
    assert (alice.turn(), bob.turn()) == ([0], [0])
    publish(events, 1, owner="bob")
    assert (alice.turn(), bob.turn()) == ([], [0])
    events.observers = ()
    publish(events, 1, owner="alice")
    assert bob.turn() == []


def test_end_sends_what_there_is_credit_for_and_finishes() -> None:
    call = Call(credit=1)
    events = rig(call)
    publish(events, 2)
    events.close()
    assert call.is_finished
    assert call.turn() == [0]
    assert not events.is_heard
    with pytest.raises(Unavailable):
        events.add(Call().subscription)  # it would keep the host from ending


def test_subscriptions_are_bounded_in_all_and_for_each_guest() -> None:
    events = rig(*(Call() for _ in range(MAX_OF_ONE_GUEST)))
    with pytest.raises(Overloaded, match="of one guest"):
        events.add(Call().subscription)
    others = [Call(guest=str(number)).subscription for number in range(MAX_SUBSCRIBERS - MAX_OF_ONE_GUEST)]
    for other in others:
        events.add(other)
    with pytest.raises(Overloaded):
        events.add(Call(guest="one more").subscription)
    events.remove(others[0])
    events.remove(others[0])
    events.add(Call(guest="one more").subscription)
