"""What all requests of a gateway share: its callers, their meters, and a connection to the host for each."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mlxbridge import AsyncClient
from mlxbridge.guest.gateway.body import BodyRoom
from mlxbridge.guest.gateway.callers import ANYONE, Caller, Keys
from mlxbridge.guest.gateway.host_state import HostState
from mlxbridge.guest.gateway.metrics import Metrics
from mlxbridge.guest.gateway.model_facts import KnownModels
from mlxbridge.guest.gateway.native.watch import Watch
from mlxbridge.guest.gateway.origins import Origins
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.guest.gateway.record import Record
from mlxbridge.guest.gateway.seats import Seats
from mlxbridge.guest.gateway.settings import Settings

log = logging.getLogger(__name__)

Listener = Callable[[Record], None]
"""Is told of each request that has ended."""


class Gateway:
    """One gateway, from its start to its end.

    Each caller has a connection of its own, so that the host shares its time out among them, and, with a token of the
    host's in the keys file, a name of its own there.

    Attributes:
        settings: what it was told.
        origins: which pages may ask.
        seats: what each caller has here.
        body_room: for the bodies of all requests under way.
        host_state: whether the host can be asked.
        known_models: what is known of the host's.
        metrics: what Prometheus is told.
        stopping: set once no new work is to begin; what goes on for ever has to end then.
        watch: for those who want to see what the host does.

    Raises:
        UsageError: the keys file is wrong.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.origins = Origins(
            settings.cors_origins, checks_host=settings.is_local and settings.keys_file is None
        )
        self.stopping = asyncio.Event()
        self._keys = None if settings.keys_file is None else Keys(settings.keys_file)
        self.seats = Seats(self._connect)
        self.body_room = BodyRoom(settings.max_bodies_bytes)
        self.host_state = HostState()
        self.known_models = KnownModels()
        self.metrics = Metrics()
        self._listeners: list[Listener] = [self.metrics.note]
        self._own = self._connect(None)
        self.watch = Watch(self._own, self.stopping)
        self.listen(self.watch.take_record)

    @property
    def client(self) -> AsyncClient:
        """The gateway's own, for what no caller has asked for."""
        return self._own

    def listen(self, listener: Listener) -> None:
        """Have a function told of all requests from now on, at their end."""
        self._listeners.append(listener)

    def note(self, record: Record) -> None:
        """A request has ended."""
        for listener in self._listeners:
            listener(record)

    def admit(self, key: str | None) -> Caller:
        """Whose request it is.

        Raises:
            Problem: 401, if there are keys and this is none of them.
        """
        if self._keys is None:
            return ANYONE
        caller = None if key is None else self._keys.find(key)
        if caller is None:
            problem = "an API key is needed" if key is None else "there is no such API key"
            raise Problem(
                401, f"{problem}: send Authorization: Bearer KEY, or x-api-key: KEY", code="invalid_api_key"
            )
        return caller

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """From the first request to the last: SIGHUP has the keys read again."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # it may have come before
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            await self.seats.close()
            await self._own.close()

    def reload(self) -> None:
        """Read the keys again; requests that run go on, though their keys be gone, but for those that would for ever."""
        if self._keys is not None and self._keys.reload():
            self.seats.keep(self._keys.names)
            self.watch.end()

    def _connect(self, token: str | None) -> AsyncClient:
        settings = self.settings
        return AsyncClient(settings.url, token=token or settings.token, timeout=settings.timeout_s)
