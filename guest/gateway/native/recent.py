"""The calls that ended last, as the host and the gateway tell of them, each call once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxbridge.events import RequestEvent
from mlxbridge.guest.gateway.record import LOOKS, Record

_MOST = 100

Entry = Mapping[str, Any]
"""A call that has ended: what ``RequestEvent`` has, and ``caller`` and ``path`` if it came through this gateway."""


class RecentCalls:
    """A list in which a call that both tell of stands once.

    The host tells of all calls, but only while somebody listens; the gateway knows of its own at all times, and who has
    made them. What comes second is added to what is there.
    """

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}  # by the host's request id, the oldest first

    def entries(self) -> list[Entry]:
        """All that are kept, the oldest first."""
        return list(self._entries.values())

    def take_event(self, event: RequestEvent) -> Entry | None:
        """What is known now of a call that the host tells of; None if it was a mere look."""
        if event.method in LOOKS:
            return None
        names = event.__slots__
        told = {name: value for name in names if (value := getattr(event, name)) is not None}
        return self._put(event.request_id, told)

    def take_record(self, record: Record) -> list[Entry]:
        """The same of the calls that a request of the gateway's was answered with."""
        own = {"caller": record.caller, "path": record.path}
        answers = [request_id for request_id in record.host_ids if request_id not in record.load_ids]
        measured = answers or record.host_ids  # what the gateway has measured is that of the answer
        entries = []
        for request_id in record.host_ids:
            told = {**own, "request_id": request_id, "kind": "request", "at": record.at + record.seconds}
            if request_id in record.load_ids:
                told |= {"method": "load", "model": record.model}
            if measured == [request_id]:
                told |= _facts(record)
            entries.append(self._put(request_id, told))
        return entries

    def _put(self, request_id: str, told: Entry) -> Entry:
        before = self._entries.pop(request_id, {})
        # What the host has measured counts, whichever came first.
        is_from_host = "guest" in told
        entry = self._entries[request_id] = {**before, **told} if is_from_host else {**told, **before}
        if len(self._entries) > _MOST:
            del self._entries[next(iter(self._entries))]
        return entry


def _facts(record: Record) -> dict[str, Any]:
    """What the gateway knows of a call by itself."""
    facts: dict[str, Any] = {"kind": "request", "at": record.at + record.seconds}
    facts["total_ms"] = round(record.seconds * 1000, 3)
    for name in ("model", "error", "prompt_tokens", "completion_tokens"):
        if value := getattr(record, name):
            facts[name] = value
    if record.ttft_s is not None:
        facts["ttft_ms"] = round(record.ttft_s * 1000, 3)
    return facts
