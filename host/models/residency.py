"""Which models are in memory, which wait for room, and which make way: bookkeeping alone, with time handed in.

A model that is to be loaded asks for its bytes. It is admitted if they are free and nobody waits before it; else it waits its
turn, in order, and only for the first in line is room made. Who makes way, in this order:

1. models without work, the one that was used least lately first, once they have had none for ``grace_s``: the next call of
   somebody who asks one after the other comes sooner than that;
2. models with work, the one that has had its turn for longest first, once that was at least ``tenure_s``. It takes no new
   calls, ends those it has, and goes.

Since nobody is admitted past the first in line, and every turn ends when others wait, each one gets its turn. Pinned models
never make way, and one that does not fit beside them is refused. A model that has had no work for longer than it is kept
alive goes though nobody waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

TENURE_S = 10.0
GRACE_S = 0.5


@dataclass(slots=True)
class _Resident:
    """A model that has room; ``turn_began_at`` is None until it is ready, and it counts as busy till then."""

    name: str
    num_bytes: int
    is_pinned: bool
    keep_alive_s: float | None
    turn_began_at: float | None = None
    is_busy: bool = True
    idle_since: float = inf
    is_leaving: bool = False

    @property
    def expires_at(self) -> float:
        """When it goes if no call comes; never, while it has work."""
        never = self.is_busy or self.is_leaving or self.is_pinned or self.keep_alive_s is None
        return inf if never or self.keep_alive_s is None else self.idle_since + self.keep_alive_s


@dataclass(slots=True)
class Decision:
    """What is to be done now.

    Attributes:
        admitted: models that have got room, in order.
        refused: those that never will, with what pinned models leave.
        leaving: those that take no more calls, and are unloaded when they have none.
        expired: those of them that nobody has used for as long as they are kept; the others make room.
        wake_at: when to ask again though nothing has happened; infinity: only when something has.
    """

    admitted: list[str] = field(default_factory=list)
    refused: list[tuple[str, int]] = field(default_factory=list)
    leaving: list[str] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)
    wake_at: float = inf


class Residency:
    """Owns who has room and who waits for it.

    Args:
        budget_bytes: what all models that are loaded may take together.
        tenure_s: how long a model with work has its turn at least, though others wait.
        grace_s: how long a model has to have been without work to make way before that.
    """

    def __init__(self, budget_bytes: float, *, tenure_s: float = TENURE_S, grace_s: float = GRACE_S) -> None:
        self.budget_bytes = budget_bytes
        self._tenure_s = tenure_s
        self._grace_s = grace_s
        self._residents: dict[str, _Resident] = {}
        self._queue: dict[str, _Resident] = {}

    @property
    def reserved_bytes(self) -> int:
        """What the models that have room may take, those that are leaving among them."""
        return sum(resident.num_bytes for resident in self._residents.values())

    @property
    def most_bytes(self) -> float:
        """What a model can get at all: pinned ones never make way."""
        return self.budget_bytes - sum(
            resident.num_bytes for resident in self._residents.values() if resident.is_pinned
        )

    @property
    def pinned(self) -> list[str]:
        """Models that have room and never make way."""
        return [resident.name for resident in self._residents.values() if resident.is_pinned]

    @property
    def waiting(self) -> list[str]:
        """Models that wait for room, in order."""
        return list(self._queue)

    def bytes_of(self, name: str) -> int:
        """What a model may take; 0 if it has no room."""
        resident = self._residents.get(name)
        return 0 if resident is None else resident.num_bytes

    def expires_at(self, name: str) -> float:
        """When a model goes if no call comes; infinity: never, or it has work, or has no room."""
        resident = self._residents.get(name)
        return inf if resident is None else resident.expires_at

    def ask(self, name: str, num_bytes: int, *, is_pinned: bool, keep_alive_s: float | None) -> None:
        """Let a model wait for room; ``decide`` says when it has it.

        Raises:
            ValueError: it has room, or waits already.
        """
        if name in self._residents or name in self._queue:
            raise ValueError(f"{name} has asked already")
        self._queue[name] = _Resident(name, num_bytes, is_pinned, keep_alive_s)

    def ask_now(self, name: str, num_bytes: int, *, is_pinned: bool, keep_alive_s: float | None) -> bool:
        """Take room for a model only if it is free and nobody waits for it; whether it was.

        Raises:
            ValueError: see ``ask``.
        """
        if self._queue or num_bytes > self._free_bytes:
            return False
        self.ask(name, num_bytes, is_pinned=is_pinned, keep_alive_s=keep_alive_s)
        self._residents[name] = self._queue.pop(name)
        return True

    def leave(self, name: str) -> None:
        """A model's process has ended, or it does not wait any more; twice is fine."""
        self._residents.pop(name, None)
        self._queue.pop(name, None)

    def begin_turn(self, name: str, now: float, *, is_busy: bool) -> None:
        """A model is ready, with calls that waited for it or without. After a crash its turn goes on."""
        resident = self._residents[name]
        if resident.turn_began_at is None:
            resident.turn_began_at = now
        self.set_busy(name, now, is_busy=is_busy)

    def set_busy(self, name: str, now: float, *, is_busy: bool) -> None:
        """A model that has been ready has work now, or has none any more."""
        resident = self._residents[name]
        resident.is_busy, resident.idle_since = is_busy, now

    def keep_alive(self, name: str, seconds: float | None) -> None:
        """A model that has room, or waits for it, is to be kept for so long after its last call; None: for ever."""
        resident = self._residents.get(name) or self._queue.get(name)
        if resident is not None:
            resident.keep_alive_s = seconds

    def pin(self, name: str, is_pinned: bool) -> None:
        """A model that has room, or waits for it, is never to make way, or may again."""
        resident = self._residents.get(name) or self._queue.get(name)
        if resident is not None:
            resident.is_pinned = is_pinned

    def decide(self, now: float) -> Decision:
        """Who comes and who goes; books it as done, but for the bytes of those who go, until they ``leave``."""
        decision = Decision()
        for resident in self._residents.values():
            if resident.expires_at <= now:
                decision.expired.append(resident.name)
                self._send_away(resident, decision)
        while self._queue:
            name, asked = next(iter(self._queue.items()))
            if asked.num_bytes > self.most_bytes:
                decision.refused.append((name, int(self.most_bytes)))
                del self._queue[name]
            elif asked.num_bytes <= self._free_bytes:
                decision.admitted.append(name)
                self._residents[name] = self._queue.pop(name)
            else:
                self._make_room(asked.num_bytes, now, decision)
                break
        next_expiry = min((resident.expires_at for resident in self._residents.values()), default=inf)
        decision.wake_at = min(decision.wake_at, next_expiry)
        return decision

    @property
    def _free_bytes(self) -> float:
        return self.budget_bytes - self.reserved_bytes

    def _make_room(self, num_bytes: int, now: float, decision: Decision) -> None:
        """Send away whom it takes, or see when that can be."""
        leaving = sum(resident.num_bytes for resident in self._residents.values() if resident.is_leaving)
        missing = num_bytes - self._free_bytes - leaving
        victims: list[_Resident] = []
        for resident in self._in_order_of_leaving():
            if missing <= 0:
                break
            victims.append(resident)
            missing -= resident.num_bytes
        if missing > 0 or not victims:
            return  # some are being loaded, and can go once they are ready; or enough are on their way
        for resident in reversed(victims[:-1]):  # the small ones before the last may not be needed
            if missing + resident.num_bytes <= 0:
                victims.remove(resident)
                missing += resident.num_bytes
        decision.wake_at = max(map(self._may_leave_at, victims))
        if decision.wake_at <= now:
            decision.wake_at = inf
            for resident in victims:
                self._send_away(resident, decision)

    def _in_order_of_leaving(self) -> Iterator[_Resident]:
        movable = [
            (resident.is_busy, began_at if resident.is_busy else resident.idle_since, resident)
            for resident in self._residents.values()
            if (began_at := resident.turn_began_at) is not None
            and not resident.is_leaving
            and not resident.is_pinned
        ]
        return (resident for _, _, resident in sorted(movable, key=lambda entry: entry[:2]))

    def _may_leave_at(self, resident: _Resident) -> float:
        assert resident.turn_began_at is not None
        end_of_turn = resident.turn_began_at + self._tenure_s
        return end_of_turn if resident.is_busy else min(end_of_turn, resident.idle_since + self._grace_s)

    def _send_away(self, resident: _Resident, decision: Decision) -> None:
        resident.is_leaving = True
        decision.leaving.append(resident.name)
