"""The calls that wait for a place in the batch, and which of them is next; plain bookkeeping, no arrays, no clock.

- Classes of priority: high before normal before low, but every ``TURN``-th place that a class could have goes to those
  below it, so that none starves. While they have as many of the places that are taken, nothing is due to them.
- The lowest class has what the others leave: a running call of it gives its place up to a waiting one of a higher class,
  unless the place was its due.
- Within a class, guests take turns by what they have been served: the next one is whoever has got the fewest tokens. A
  guest that comes back is set level with the one that was served last, so that idling earns no credit. That is the
  virtual token counter of Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024); its levelling is the
  virtual time of start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996). It needs no guess at how long an
  answer will be.
- Within a guest's calls of one class: first come, first served.

What waits is bounded in calls and in prompt tokens, and a guest may have at most ``GUEST_SHARE`` times as much waiting as is
still free (Choudhury and Hahne, "Dynamic Queue Length Thresholds", 1998): one guest alone can fill three quarters, and
there is always room for another. Calls of lower classes take no room from a call that is to wait, but their tokens do.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mlxbridge.errors import Overloaded
from mlxbridge.host.engine.interface import GUEST_SHARE
from mlxbridge.types import Priority

PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")
LOWEST = len(PRIORITIES) - 1
TURN = 8
# A token takes about 36 bytes here: 75 MB.
MAX_WAITING_TOKENS = 2**21
# A drawn token costs more than one of a prompt, which is read together with others.
DRAWN_WEIGHT = 2
# Guests that have no open call, but have been served more than those that wait.
_MOST_IDLE_ACCOUNTS = 1024

FIRST_RETRY_AFTER_S = 1.0
_LEAST_RETRY_AFTER_S = 0.1
_MOST_RETRY_AFTER_S = 60.0

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Account(Generic[T]):
    """What one guest has in one class: its waiting calls, and what it has been served.

    Attributes:
        num_served: tokens of prompts, and ``DRAWN_WEIGHT`` for each that was drawn.
        num_open: calls that wait or run.
    """

    num_served: int = 0
    num_open: int = 0
    waiting: deque[Ticket[T]] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class Ticket(Generic[T]):
    """A call's place in the queue, kept until the call is over.

    Attributes:
        number: of arrival.
        num_tokens: of its prompt.
        rank: its class, 0 is served first.
        gives_way: it runs, and gives its place up to a waiting call of a higher class.
        is_aside: it neither waits nor runs.
    """

    item: T
    guest: str
    rank: int
    number: int
    num_tokens: int
    account: Account[T]
    gives_way: bool = False
    is_aside: bool = False

    @property
    def seniority(self) -> tuple[int, int]:
        """The largest gives way first."""
        return self.rank, self.number

    def charge(self, num_drawn: int = 1) -> None:
        """Its guest has been served so many drawn tokens."""
        self.account.num_served += DRAWN_WEIGHT * num_drawn


class _Class(Generic[T]):
    """The waiting calls of one priority."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account[T]] = {}
        self.num_waiting = 0
        self.num_open = 0
        self.num_aside = 0
        # Places given to this class in a row while a lower one waited.
        self.num_in_a_row = 0
        # What the guest that was last given a place had been served by then; never falls.
        self._level = 0

    @property
    def num_running(self) -> int:
        return self.num_open - self.num_waiting - self.num_aside

    def waiting_of(self, guest: str) -> int:
        account = self.accounts.get(guest)
        return 0 if account is None else len(account.waiting)

    def account(self, guest: str) -> Account[T]:
        account = self.accounts.setdefault(guest, Account())
        if not account.waiting:
            account.num_served = max(account.num_served, self._level)
        return account

    def next(self) -> Ticket[T]:
        waiting = (account for account in self.accounts.values() if account.waiting)
        account = min(waiting, key=lambda account: (account.num_served, account.waiting[0].number))
        return account.waiting[0]

    def take(self, ticket: Ticket[T]) -> None:
        self.num_waiting -= 1
        ticket.account.waiting.popleft()
        self._level = max(self._level, ticket.account.num_served)

    def close(self, ticket: Ticket[T]) -> None:
        self.num_open -= 1
        ticket.account.num_open -= 1
        if not self.num_open:
            self.accounts.clear()
            self._level = 0
        elif not ticket.account.num_open and len(self.accounts) > _MOST_IDLE_ACCOUNTS:
            self._forget()

    def _forget(self) -> None:
        idle = [guest for guest, account in self.accounts.items() if not account.num_open]
        idle.sort(key=lambda guest: self.accounts[guest].num_served)
        for guest in idle[: max(1, len(idle) // 2)]:
            del self.accounts[guest]


class Queue(Generic[T]):
    """Owns who waits. Every ticket ends in ``close``, whether it waits or not.

    Attributes:
        num_yielding: running calls that give way, see ``Ticket``.
    """

    def __init__(self, name: str, *, max_waiting: int, max_tokens: int = MAX_WAITING_TOKENS) -> None:
        """Start empty.

        Args:
            name: the model's, for refusals.
            max_waiting: calls that may wait, beside those that can begin at once.
            max_tokens: prompt tokens of all calls that wait, unless there is only one.
        """
        self._name = name
        self._max_waiting = max_waiting
        self._max_tokens = max_tokens
        self._classes: tuple[_Class[T], ...] = tuple(_Class() for _ in PRIORITIES)
        # Prompt tokens that wait, by guest.
        self._tokens: Counter[str] = Counter()
        self._num_tokens = 0
        self._num_tickets = 0
        self.num_yielding = 0
        self._ends: deque[float] = deque(maxlen=64)

    def __len__(self) -> int:
        return sum(line.num_waiting for line in self._classes)

    def count(self) -> dict[Priority, int]:
        """Waiting calls by priority."""
        return {name: line.num_waiting for name, line in zip(PRIORITIES, self._classes, strict=True)}

    def add(
        self, item: T, *, guest: str, priority: Priority, num_tokens: int, num_free: int, now: float
    ) -> Ticket[T]:
        """Let a call wait.

        Args:
            item: what ``next`` gives back.
            guest: whose it is.
            priority: its class.
            num_tokens: of its prompt.
            num_free: calls of its class that can begin at once, and do not count as waiting.
            now: seconds.

        Raises:
            Overloaded: too much waits, in all or of this guest's; the message names the bound that was met, the details
                have it as ``limit`` and what waits as ``waiting``; ``retry_after`` is from how fast calls end now.
        """
        self.check_room(guest=guest, priority=priority, num_tokens=num_tokens, num_free=num_free, now=now)
        rank = PRIORITIES.index(priority)
        account = self._classes[rank].account(guest)
        self._num_tickets += 1
        ticket = Ticket(item, guest, rank, self._num_tickets, num_tokens, account)
        account.num_open += 1
        account.waiting.append(ticket)
        self._classes[rank].num_open += 1
        self._classes[rank].num_waiting += 1
        self._hold(ticket, 1)
        return ticket

    def check_room(
        self, *, guest: str, priority: Priority, num_free: int, now: float, num_tokens: int = 0
    ) -> None:
        """Refuse what ``add`` would refuse, maybe before the prompt's length is known.

        Raises:
            Overloaded: see ``add``.
        """
        # Those that would be served before it, or with it.
        lines = self._classes[: PRIORITIES.index(priority) + 1]
        waiting, calls = (
            sum(line.num_waiting for line in lines),
            sum(line.waiting_of(guest) for line in lines),
        )
        free = self._max_waiting + num_free - waiting
        free_tokens, tokens = self._max_tokens - self._num_tokens, self._tokens[guest]
        if free <= 0:
            beside = f" beside {num_free} that can begin" if num_free else ""
            raise self._overloaded(
                f"{waiting} calls wait, and {self._max_waiting} may{beside} (--max-waiting)",
                waiting=waiting,
                limit=self._max_waiting,
                now=now,
            )
        if self._num_tokens and num_tokens > free_tokens:
            raise self._overloaded(
                f"{self._num_tokens} prompt tokens wait, and {num_tokens} more would be over {self._max_tokens}",
                waiting=self._num_tokens,
                limit=self._max_tokens,
                now=now,
            )
        if calls >= GUEST_SHARE * free:
            raise self._overloaded(
                f"{calls} calls of this guest's wait, and while {free} more may wait its share is {GUEST_SHARE * free}",
                waiting=calls,
                limit=GUEST_SHARE * free,
                now=now,
            )
        if tokens > GUEST_SHARE * free_tokens:
            raise self._overloaded(
                f"{tokens} prompt tokens of this guest's wait, and while {free_tokens} more may wait its share is "
                f"{GUEST_SHARE * free_tokens}",
                waiting=tokens,
                limit=GUEST_SHARE * free_tokens,
                now=now,
            )

    def next(self) -> Ticket[T] | None:
        """The call that gets the next place; it stays until it is taken."""
        waiting = [rank for rank, line in enumerate(self._classes) if line.num_waiting]
        if not waiting:
            return None
        rank = next((rank for rank in waiting[:-1] if not self._owes(rank)), waiting[-1])
        return self._classes[rank].next()

    def take(self, ticket: Ticket[T]) -> None:
        """The call that ``next`` gave leaves the queue and runs."""
        # A place that it has though others wait is its due.
        if ticket.rank == LOWEST and not any(line.num_waiting for line in self._classes[:LOWEST]):
            ticket.gives_way = True
            self.num_yielding += 1
        self._classes[ticket.rank].take(ticket)
        self._hold(ticket, -1)
        ticket.account.num_served += ticket.num_tokens
        for line in self._classes[: ticket.rank]:
            line.num_in_a_row = 0
        if any(line.num_waiting for line in self._classes[ticket.rank + 1 :]):
            self._classes[ticket.rank].num_in_a_row += 1

    def put_back(self, ticket: Ticket[T]) -> None:
        """A call that ran has to wait again, in its old place among its guest's; the bounds do not hold for it."""
        self._vacate(ticket)
        ticket.account.num_served -= ticket.num_tokens  # or it would pay twice
        self._insert(ticket)

    def put_aside(self, ticket: Ticket[T]) -> None:
        """A call that waits or runs does neither, until it is taken back."""
        if ticket in ticket.account.waiting:
            self._remove(ticket)
        else:
            self._vacate(ticket)
            ticket.account.num_served -= ticket.num_tokens
        ticket.is_aside = True
        self._classes[ticket.rank].num_aside += 1

    def take_back(self, ticket: Ticket[T]) -> None:
        """A call that was put aside waits, as after ``put_back``."""
        self._end_aside(ticket)
        self._insert(ticket)

    def close(self, ticket: Ticket[T], now: float) -> None:
        """A call is over, whether it waited or ran."""
        if ticket.is_aside:
            self._end_aside(ticket)
        elif ticket in ticket.account.waiting:
            self._remove(ticket)
        else:
            self._vacate(ticket)
            self._ends.append(now)
        self._classes[ticket.rank].close(ticket)

    def _insert(self, ticket: Ticket[T]) -> None:
        waiting = ticket.account.waiting
        place = next((i for i, other in enumerate(waiting) if other.number > ticket.number), len(waiting))
        waiting.insert(place, ticket)
        self._classes[ticket.rank].num_waiting += 1
        self._hold(ticket, 1)

    def _remove(self, ticket: Ticket[T]) -> None:
        ticket.account.waiting.remove(ticket)
        self._classes[ticket.rank].num_waiting -= 1
        self._hold(ticket, -1)

    def _end_aside(self, ticket: Ticket[T]) -> None:
        ticket.is_aside = False
        self._classes[ticket.rank].num_aside -= 1

    def _owes(self, rank: int) -> bool:
        """Whether the next place is for those below a class."""
        if self._classes[rank].num_in_a_row < TURN - 1:
            return False
        running = [line.num_running for line in self._classes]
        return not 0 < sum(running) <= TURN * sum(running[rank + 1 :])

    def _vacate(self, ticket: Ticket[T]) -> None:
        self.num_yielding -= ticket.gives_way
        ticket.gives_way = False

    def retry_after(self, now: float) -> float:
        """Seconds until an eighth of what waits now has begun, if calls go on ending as fast as lately."""
        if len(self._ends) < 2:
            return FIRST_RETRY_AFTER_S
        pace = (now - self._ends[0]) / len(self._ends)
        return min(max(pace * max(1, len(self) // 8), _LEAST_RETRY_AFTER_S), _MOST_RETRY_AFTER_S)

    def _overloaded(self, why: str, *, waiting: int, limit: int, now: float) -> Overloaded:
        retry_after = self.retry_after(now)
        return Overloaded(
            f"{self._name} is busy: {why}; try again in {retry_after:.1f} s",
            retry_after=retry_after,
            details={"waiting": waiting, "limit": limit},
        )

    def _hold(self, ticket: Ticket[T], sign: int) -> None:
        self._num_tokens += sign * ticket.num_tokens
        self._tokens[ticket.guest] += sign * ticket.num_tokens
        if not self._tokens[ticket.guest]:
            del self._tokens[ticket.guest]
