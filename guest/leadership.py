"""Which of the threads that wait for something reads the socket, for everybody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

Condition = Callable[[], bool]


class Leadership:
    """A thread that finds nobody reading leads, and hands out what comes in; the others follow.

    Followers sleep on a condition of their own, until they have news or the leader leaves; whoever leaves, for whatever reason,
    sees to it that somebody leads on. (Leader/Followers: Schmidt and others, Pattern-Oriented Software Architecture 2, 2000.)

    Everything happens under the mutex, which is released only to wait.

    Attributes:
        is_taken: a thread waits for news, and so will read what comes; it says so itself.
    """

    def __init__(self, mutex: threading.Lock) -> None:
        self.is_taken = False
        self._mutex = mutex
        self._followers: dict[threading.Condition, Condition] = {}

    def wait(
        self,
        done: Condition,
        deadline: float | None,
        lead: Callable[[float | None], None],
        is_over: Condition,
    ) -> bool:
        """Lead or follow until ``done()``; False when it is over, or the deadline came first.

        Args:
            deadline: of ``time.monotonic``.
            lead: waits for news, at most so many seconds, and hands them out.
            is_over: there will be no more.
        """
        try:
            while not done():
                left = None if deadline is None else deadline - monotonic()
                if is_over() or (left is not None and left <= 0):
                    return False
                if self.is_taken:
                    self._follow(done, left)
                else:
                    lead(left)
            return True
        finally:
            if self._followers and not self.is_taken:
                self._hand_over()

    def wake(self, *, is_over: bool) -> None:
        """Wake the followers that have news: all, if it is over."""
        for condition, done in self._followers.items():
            if is_over or done():
                condition.notify()

    def without_mutex(self, wait: Callable[[float | None], bool], timeout: float | None) -> bool:
        """Wait as long as that takes, while others use what the mutex guards."""
        try:
            self._mutex.release()  # inside the try: an interrupt right behind it must find the mutex taken again
            return wait(timeout)
        finally:
            self._mutex.acquire()

    def _follow(self, done: Condition, timeout: float | None) -> None:
        condition = threading.Condition(self._mutex)
        self._followers[condition] = done
        try:
            condition.wait(timeout)
        finally:
            self._followers.pop(condition, None)

    def _hand_over(self) -> None:
        """Nobody leads now: one of those that still wait must."""
        for condition, done in self._followers.items():
            if not done():
                condition.notify()
                return
