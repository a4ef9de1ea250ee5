"""Open calls: who waits, who runs, and whether memory lets one more begin; plain bookkeeping."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Protocol

from mlxbridge.host.engine.admission import Admission, Joining, LaneSize
from mlxbridge.host.engine.call import Call
from mlxbridge.host.engine.interface import Row
from mlxbridge.host.engine.queue import LOWEST, PRIORITIES, Queue, Ticket
from mlxbridge.host.engine.rows import Job
from mlxbridge.types import Priority


class Lanes(Protocol):
    """What a roster asks of the rows that are being decoded; ``lanes.Lanes`` is one."""

    def preview(self, joining: Iterable[Joining]) -> list[LaneSize]:
        """What the lanes hold once rows have joined, of so many tokens each, and so many that may still be drawn."""

    def compact(self) -> None:
        """Give all memory back that no row needs."""


class Roster:
    """Owns the calls from submit to end. Each waits, or runs as one job after another; a running job is read, then decoded.
    One that is held does neither.

    How many may run is the caller's to say (``limit``), and so is what time it is (``now``, of ``time.monotonic``).
    """

    def __init__(self, queue: Queue[Call], admission: Admission) -> None:
        """Begin with no calls.

        Args:
            queue: who waits; empty.
            admission: counts memory.
        """
        self._queue = queue
        self._admission = admission
        self._open: dict[int, Ticket[Call]] = {}
        self._running: dict[Job, Ticket[Call]] = {}
        # Of the running jobs those that are in no lane yet.
        self._reading: dict[Job, None] = {}
        # Whether memory, not places, keeps the next call waiting, as of the latest step.
        self._is_short = False
        # No deadline of an open call is before this.
        self._first_deadline = inf
        self._num_preempted = 0
        self._num_held = 0

    def __len__(self) -> int:
        """Open calls."""
        return len(self._open)

    def __contains__(self, number: int) -> bool:
        """Whether a call of that number is open."""
        return number in self._open

    def get(self, number: int) -> Call | None:
        """The open call of that number."""
        ticket = self._open.get(number)
        return None if ticket is None else ticket.item

    @property
    def num_active(self) -> int:
        """Open calls that are not held."""
        return len(self._open) - self._num_held

    @property
    def num_running(self) -> int:
        """Calls whose prompts are being read, or answers drawn."""
        return len(self._running)

    def running(self) -> list[Call]:
        """The calls that run, in the order in which they began."""
        return [ticket.item for ticket in self._running.values()]

    def is_running(self, job: Job) -> bool:
        """Whether a job is a running call's; once its call waits again or has ended, it is nobody's."""
        return job in self._running

    def call_of(self, job: Job) -> Call:
        """Whose a running job is."""
        return self._running[job].item

    def check_room(self, guest: str, *, priority: Priority, limit: int, now: float) -> None:
        """Refuse what ``add`` would refuse, before the prompt's length is known.

        Raises:
            Overloaded: see ``Queue.add``.
        """
        num_free = self._num_free(limit, priority)
        self._queue.check_room(guest=guest, priority=priority, num_free=num_free, now=now)

    def add(self, call: Call, *, guest: str, priority: Priority, limit: int, now: float) -> None:
        """Let a call wait; none of its number is open.

        Raises:
            Overloaded: see ``Queue.add``.
        """
        self._open[call.number] = self._queue.add(
            call,
            guest=guest,
            priority=priority,
            num_tokens=len(call.job.prompt),
            num_free=self._num_free(limit, priority),
            now=now,
        )
        self._first_deadline = min(self._first_deadline, call.deadline_at)

    def expire(self, now: float) -> list[Row]:
        """The last rows of calls whose deadline has passed; the calls are still to be closed."""
        if now < self._first_deadline:
            return []
        calls = [ticket.item for ticket in self._open.values()]
        self._first_deadline = min(
            (call.deadline_at for call in calls if call.deadline_at > now), default=inf
        )
        return [call.expire() for call in calls if call.deadline_at <= now]

    def admit(self, lanes: Lanes, *, limit: int) -> Job | None:
        """Let the next call run, if there are a place and memory for it, or are once others wait; its job, to be read."""
        self._is_short = False
        if len(self._running) >= limit and not self._queue.num_yielding:
            return None
        if (ticket := self._queue.next()) is None:
            return None
        self._make_way(ticket, lanes, limit)
        if len(self._running) >= limit:
            return None
        call = ticket.item
        if self._running and not self._fits(call.job, lanes):
            self._is_short = True
            return None
        self._queue.take(ticket)
        call.admit()
        self._running[call.job] = ticket
        self._reading[call.job] = None
        return call.job

    def join(self, job: Job) -> None:
        """A job's prompt has been read: from now on its row counts with its lane."""
        del self._reading[job]

    def charge(self, job: Job, num_tokens: int) -> None:
        """So many tokens were drawn for a running job."""
        self._running[job].charge(num_tokens)

    def preempt(self, lanes: Lanes) -> None:
        """Let calls wait again, the newest of the lowest priority first, until the next tokens of the rest have room."""
        budget = self._admission.budget
        if self.projected_bytes(lanes, num_more=1) <= budget:
            return
        lanes.compact()
        while self.projected_bytes(lanes, num_more=1) > budget and len(self._running) > 1:
            self._preempt_newest(self._running.values())
            self._is_short = True
            lanes.compact()

    def wait_again(self, call: Call) -> None:
        """Make a running call's caches anew, when it is its turn again; its text goes on as if nothing had happened."""
        ticket = self._running.pop(call.job)
        self._reading.pop(call.job, None)
        call.job = call.job.again()
        self._queue.put_back(ticket)

    def hold(self, number: int) -> None:
        """Spend nothing on an open call, neither time nor memory, until it is to go on. Twice is fine."""
        ticket = self._open.get(number)
        if ticket is None or ticket.is_aside:
            return
        if self._running.pop(ticket.item.job, None) is not None:
            self._reading.pop(ticket.item.job, None)
            ticket.item.job = ticket.item.job.again()
        self._queue.put_aside(ticket)
        self._num_held += 1

    def go_on(self, number: int) -> None:
        """Let a call that is held wait for its turn, as after ``wait_again``."""
        ticket = self._open.get(number)
        if ticket is not None and ticket.is_aside:
            self._num_held -= 1
            self._queue.take_back(ticket)

    def begin_again(self, call: Call) -> None:
        """Let a running call go on at once as another job, whose caches are there."""
        ticket = self._running.pop(call.job)
        call.job = call.job.again()
        self._running[call.job] = ticket

    def close(self, number: int, now: float) -> Call | None:
        """The call of that number is over; None if it was before."""
        ticket = self._open.pop(number, None)
        if ticket is None:
            return None
        self._running.pop(ticket.item.job, None)
        self._reading.pop(ticket.item.job, None)
        self._num_held -= ticket.is_aside
        self._queue.close(ticket, now)
        return ticket.item

    def projected_bytes(self, lanes: Lanes, *, num_more: int | None = None) -> int:
        """What running calls will take; see ``Admission.projected_bytes``."""
        return self._projected_bytes(self._reading, lanes, num_more)

    def stats(self) -> dict[str, int]:
        """``running``, ``held`` and ``waiting`` calls, the latter also by priority; ``preemptions_total``, calls that had to
        wait again for want of memory or of a place."""
        return {
            "running": len(self._running),
            "held": self._num_held,
            "waiting": len(self._queue),
            **{f"waiting_{priority}": count for priority, count in self._queue.count().items()},
            "preemptions_total": self._num_preempted,
        }

    def _num_free(self, limit: int, priority: Priority) -> int:
        """Calls that can begin beside those that run, or in the place of some of them.

        What cannot for want of memory is no room for others.
        """
        num_free = self._queue.num_yielding if PRIORITIES.index(priority) < LOWEST else 0
        if not (self._is_short and len(self._queue)):
            num_free += max(0, limit - len(self._running))
        return num_free

    def _make_way(self, ticket: Ticket[Call], lanes: Lanes, limit: int) -> None:
        """Let calls wait again that give way to one, the newest first, until it has a place and memory."""
        while self._queue.num_yielding and ticket.rank < LOWEST:
            if len(self._running) < limit:
                if self._fits(ticket.item.job, lanes):
                    return
                lanes.compact()
                if self._fits(ticket.item.job, lanes):
                    return
            self._preempt_newest(other for other in self._running.values() if other.gives_way)

    def _preempt_newest(self, tickets: Iterable[Ticket[Call]]) -> None:
        self.wait_again(max(tickets, key=lambda ticket: ticket.seniority).item)
        self._num_preempted += 1

    def _fits(self, job: Job, lanes: Lanes) -> bool:
        return self._projected_bytes((*self._reading, job), lanes) <= self._admission.budget

    def _projected_bytes(self, reading: Iterable[Job], lanes: Lanes, num_more: int | None = None) -> int:
        """Prompts count as the lanes would lay them out, one beside the other: what joins a longer row is padded."""
        joining = (Joining(len(job.context), job.num_left, job.adapter) for job in reading)
        return self._admission.projected_bytes(lanes.preview(joining), num_more=num_more)
