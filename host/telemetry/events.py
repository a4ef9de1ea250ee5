"""What happens on the host, told to whoever has subscribed (SPEC.md §10)."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mlxbridge.errors import Overloaded, Unavailable

KINDS = ("model", "pulled", "deleted", "reloaded", "connected", "gone", "request")
MAX_SUBSCRIBERS = 256
MAX_OF_ONE_GUEST = 16


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that has happened.

    Attributes:
        kind: one of ``KINDS``.
        owner: whose token it concerns; None: it is everybody's to know.
        item: what is sent.
    """

    kind: str
    owner: str | None
    item: Mapping[str, Any]


class Subscriber(Protocol):
    """What ``subscription.Subscription`` is to whoever tells."""

    guest: str

    def take(self, event: Event) -> None:
        """Something has happened; never blocks, never keeps more than it is allowed to."""

    def end(self) -> None:
        """Nothing more will be told."""


class Events:
    """Owns who has subscribed.

    Attributes:
        observers: names of tokens whose guests may know of all.
    """

    def __init__(self) -> None:
        self.observers: Collection[str] = ()
        self._subscribers: list[Subscriber] = []
        self._is_closed = False

    def add(self, subscriber: Subscriber) -> None:
        """Tell somebody from now on.

        Raises:
            Overloaded: too many are told already, in all or of one guest.
            Unavailable: nothing is told any more.
        """
        if self._is_closed:
            raise Unavailable("the host is shutting down, and tells no more of it")
        own = sum(other.guest == subscriber.guest for other in self._subscribers)
        if len(self._subscribers) >= MAX_SUBSCRIBERS or own >= MAX_OF_ONE_GUEST:
            raise Overloaded(
                f"{len(self._subscribers)} subscriptions are open, {own} of them this guest's; there may be "
                f"{MAX_SUBSCRIBERS}, and of one guest {MAX_OF_ONE_GUEST}"
            )
        self._subscribers.append(subscriber)

    @property
    def is_heard(self) -> bool:
        """Whether anybody has subscribed."""
        return bool(self._subscribers)

    def sees(self, identity: str | None, event: Event) -> bool:
        """Whether a guest with that token, None without any, may know of an event: of its own token's, or of all."""
        return (
            identity is None or event.owner is None or event.owner == identity or identity in self.observers
        )

    def remove(self, subscriber: Subscriber) -> None:
        """Tell somebody no more; twice is fine."""
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)

    def publish(self, kind: str, fields: Mapping[str, Any], *, owner: str | None = None) -> None:
        """Something has happened now."""
        if self._subscribers:
            event = make_event(kind, fields, owner=owner)
            for subscriber in self._subscribers:
                subscriber.take(event)

    def close(self) -> None:
        """End every subscription, and take no more."""
        self._is_closed = True
        subscribers, self._subscribers = self._subscribers, []
        for subscriber in subscribers:
            subscriber.end()


def make_event(kind: str, fields: Mapping[str, Any], *, owner: str | None = None) -> Event:
    """An event of this moment."""
    return Event(kind, owner, {"event": kind, "at": time.time(), **fields})
