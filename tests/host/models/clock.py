"""A clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Callable


class Timer:
    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Clock:
    """Stands for the event loop's time; ``pass_time`` calls what is due on the way, in order."""

    def __init__(self) -> None:
        self._now = 0.0
        self._timers: list[Timer] = []

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        self._timers.append(timer := Timer(when, callback))
        return timer

    def pass_time(self, seconds: float) -> None:
        end = self._now + seconds
        while due := [timer for timer in self._timers if not timer.is_cancelled and timer.when <= end]:
            timer = min(due, key=lambda timer: timer.when)
            self._timers.remove(timer)
            self._now = max(self._now, timer.when)
            timer.callback()
        self._now = end
