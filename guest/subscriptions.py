"""What ``subscribe`` gives: an iterator of events that ends the call when it is dropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from mlxbridge.errors import Cancelled, UsageError
from mlxbridge.events import EVENT_KINDS, Event, EventKind, read_event
from mlxbridge.guest.blocking_link import BlockingLink
from mlxbridge.guest.call import Call


def subscribe_params(events: Iterable[EventKind] | None) -> dict[str, Any]:
    """Params of ``subscribe``.

    Raises:
        UsageError: there is no such kind of event.
    """
    if events is None:
        return {}
    kinds = [events] if isinstance(events, str) else list(events)
    if not kinds or not all(kind in EVENT_KINDS for kind in kinds):
        raise UsageError(
            f"events: give some of {', '.join(EVENT_KINDS)}, not {kinds!r}", details={"field": "events"}
        )
    return {"events": kinds}


class Events(Iterator[Event]):
    """What happens on the host, as it does. For one thread at a time.

    It ends when the host drains. Leaving the ``with`` block, ``close()``, or losing the last reference ends it too.
    """

    def __init__(self, link: BlockingLink, call: Call, deadline: float | None) -> None:
        self._link = link
        self._call = call
        self._deadline = deadline
        self._finished = False

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Event:
        """The next event, waiting for it.

        Raises:
            DeadlineExceeded: the timeout came first.
            RemoteError, ConnectionLost: what ended the subscription, after the events that came before.
        """
        while not self._finished:
            try:
                self._link.wait(self._call, self._deadline)
                item = self._link.take_item(self._call)
            except BaseException:
                self.close()
                raise
            if item is None:
                self._finished = True
                if self._call.error is not None:
                    raise self._call.error
            elif (event := read_event(item)) is not None:
                return event
        raise StopIteration

    def close(self) -> None:
        """End the subscription. Further iteration ends at once."""
        if not self._finished:
            self._finished = True
            self._link.give_up(self._call, Cancelled("the subscription was closed"))

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._finished and not self._call.ended:
            self._link.drop(self._call)
