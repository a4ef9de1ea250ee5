"""What the host is doing, asked for once a second for all who look, and only while somebody does."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from mlxbridge import AsyncClient
from mlxbridge.errors import BridgeError
from mlxbridge.events import Event, ModelEvent, RequestEvent, StoreEvent
from mlxbridge.guest.gateway.callers import Caller
from mlxbridge.guest.gateway.native.recent import Entry, RecentCalls
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.guest.gateway.record import Record
from mlxbridge.guest.gateway.visible import visible_name, visible_to
from mlxbridge.types import ModelInfo, Status

_EVERY_S = 1.0
_WITHIN_S = 5.0
_MOST_UNREAD = 256
MOST_OF_ONE = 64
"""Streams of events that a caller may read at once. They count apart from ``max_in_flight``, or an open page would leave nothing of it."""
MOST_OF_ALL = 512


class Watch:
    """One of a gateway, which all who look share: however many pages are open, the host is asked once.

    Args:
        client: the gateway's own.
        stopping: is set when nobody may look any longer.
    """

    def __init__(self, client: AsyncClient, stopping: asyncio.Event) -> None:
        self._client = client
        self._stopping = stopping
        self._lookers: set[_Looker] = set()
        self._recent = RecentCalls()
        self._latest: Status | Problem | None = None
        self._models: Sequence[ModelInfo] = ()  # as the host told of them last
        self._tasks: list[asyncio.Task[None]] = []

    async def look(self, caller: Caller) -> AsyncGenerator[bytes]:
        """Server-sent events for as long as they are read: ``status`` every second or ``away`` in its place, and what happens.

        A caller is told of the models that she may use, and of her own calls; one that may manage all models, of
        everything that the host tells the gateway.

        Raises:
            Problem: 429 or 503, before the first event; too many look already.
        """
        self._check_number(caller)
        looker = _Looker(caller)
        for entry in self._recent.entries():
            looker.tell_call(entry, self._models)
        if self._latest is not None:
            looker.tell_now(self._latest)
        self._lookers.add(looker)
        if len(self._lookers) == 1:
            works = (self._ask(), self._listen(), self._wait_for_end())
            self._tasks = [asyncio.create_task(work) for work in works]
        try:
            while news := await looker.take():
                yield news
        finally:
            self._lookers.discard(looker)
            if not self._lookers:
                self._stop()

    @property
    def num_lookers(self) -> dict[str, int]:
        """How many streams of events are read, by the caller's name."""
        return Counter(looker.caller.name for looker in self._lookers)

    def take_record(self, record: Record) -> None:
        """A request of this gateway's has ended."""
        for entry in self._recent.take_record(record):
            for looker in self._lookers:
                looker.tell_call(entry, self._models)

    def end(self) -> None:
        """Whoever looks has to ask anew, and may not be let in again."""
        for looker in self._lookers:
            looker.end()

    def _check_number(self, caller: Caller) -> None:
        if self.num_lookers.get(caller.name, 0) >= MOST_OF_ONE:
            why = f"this key reads {MOST_OF_ONE} streams of events already"
            raise Problem(429, why, code="rate_limit_exceeded")
        if len(self._lookers) >= MOST_OF_ALL:
            why = f"{MOST_OF_ALL} streams of events are read already"
            raise Problem(503, why, code="overloaded")

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        self._latest = None

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began_at = loop.time()
            try:
                self._latest = status = await self._client.status(timeout=_WITHIN_S)
                self._models = status.models
            except BridgeError as error:
                self._latest = Problem.of(error)
            for looker in self._lookers:
                looker.tell_now(self._latest)
            await asyncio.sleep(began_at + _EVERY_S - loop.time())

    async def _listen(self) -> None:
        while True:
            try:
                async with await self._client.subscribe() as events:
                    async for event in events:
                        self._take(event)
            except BridgeError:
                pass  # asking for the status tells of it
            await asyncio.sleep(_EVERY_S)

    async def _wait_for_end(self) -> None:
        await self._stopping.wait()
        self.end()

    def _take(self, event: Event) -> None:
        if isinstance(event, RequestEvent):
            if entry := self._recent.take_event(event):
                for looker in self._lookers:
                    looker.tell_call(entry, self._models)
        else:
            for looker in self._lookers:
                looker.tell_event(event, self._models)


class _Looker:
    """Somebody who looks, and what she has not read yet: of the status the latest, of what happens the last few hundred."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self._now = b""
        self._happened: deque[bytes] = deque(maxlen=_MOST_UNREAD)
        self._news = asyncio.Event()
        self._has_ended = False

    async def take(self) -> bytes:
        """All that is new, waiting until something is; b"" at the end."""
        await self._news.wait()
        self._news.clear()
        if self._has_ended:
            return b""
        news = b"".join((*self._happened, self._now))
        self._happened.clear()
        self._now = b""
        return news

    def tell_now(self, now: Status | Problem) -> None:
        """How the host is, or why that is not known."""
        if isinstance(now, Problem):
            self._now = sse("away", {"code": now.code, "message": now.message})
        else:
            self._now = sse("status", status_for(self.caller, now))
        self._news.set()

    def tell_call(self, entry: Entry, models: Sequence[ModelInfo]) -> None:
        """A call that has ended, or more of it."""
        if self.caller.sees_all:
            self._tell("request", entry)
        elif entry.get("caller") == self.caller.name:
            told = dict(entry)
            if (model := told.pop("model", None)) is not None:
                name = visible_name(self.caller, models, model)
                told |= {} if name is None else {"model": name}
            self._tell("request", told)

    def tell_event(self, event: Event, models: Sequence[ModelInfo]) -> None:
        """Anything else that has happened."""
        if self.caller.sees_all:
            self._tell(event.kind, asdict(event))
        elif isinstance(event, ModelEvent | StoreEvent):
            name = visible_name(self.caller, models, event.model)
            if name is not None:
                self._tell(event.kind, {**asdict(event), "model": name})

    def end(self) -> None:
        """There is no more."""
        self._has_ended = True
        self._news.set()

    def _tell(self, kind: str, value: Any) -> None:
        self._happened.append(sse(kind, value))
        self._news.set()


def status_for(caller: Caller, status: Status) -> dict[str, Any]:
    """The status as a caller may know it, without models that are not hers; and what she may do besides."""
    return {
        **asdict(status),
        "models": [asdict(model) for model in visible_to(caller, status.models)],
        "caller": {"name": caller.name, "manage": caller.manage},
    }


def sse(kind: str, value: Any) -> bytes:
    """One server-sent event."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(value))
