"""What ``subscribe`` gives: an iterator of events that ends the call when it is dropped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlxbridge.errors import UsageError
from mlxbridge.events import EVENT_KINDS, Event, EventKind, read_event
from mlxbridge.guest.blocking_link import BlockingLink
from mlxbridge.guest.call import Call
from mlxbridge.guest.reader import Reader


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


class Events(Reader[Event]):
    """What happens on the host, as it does. For one thread at a time.

    It ends when the host drains. Leaving the ``with`` block, ``close()``, or losing the last reference ends it too.
    """

    _last_words = "the subscription was closed"

    def __init__(self, link: BlockingLink, call: Call, deadline: float | None) -> None:
        super().__init__(link, deadline)
        self._call = call

    @property
    def _calls(self) -> Iterable[Call]:
        return (self._call,)

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
