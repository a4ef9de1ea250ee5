"""The memory that models share: what there is, and which part of it each one has.

``Residency`` books who comes and who goes; here that is made to happen, when something has changed or its time has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, Protocol

from mlxbridge.errors import BridgeError
from mlxbridge.host.models.errand import locate_files
from mlxbridge.host.models.machine import Machine, survey_machine
from mlxbridge.host.models.need import Need, estimate_need, share_of, shown, too_large
from mlxbridge.host.models.residency import GRACE_S, TENURE_S, Residency
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import ModelSource

LOCATE_TIMEOUT_S = 30.0

Locate = Callable[[Sequence[str]], Awaitable[Mapping[str, Path]]]

log = logging.getLogger(__name__)


class NoRoom(Exception):
    """There is no room that is free, and nobody waits for the model."""


class Timer(Protocol):
    """What ``Clock.call_at`` gives."""

    def cancel(self) -> None:
        """Do not call."""


class Clock(Protocol):
    """The part of an event loop that tells the time."""

    def time(self) -> float:
        """Seconds."""

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call back once it is so late."""


class Memory:
    """Owns the budget, and the lease of every model.

    Args:
        budget_bytes: what all models may take together; None: what the machine has.
        tenure_s, grace_s: see ``Residency``.
        survey: says what the machine has.
        locate: says where the files of hub models are, by name, of those that are on this machine.
        clock: tells the time; None: the running event loop.
    """

    def __init__(
        self,
        budget_bytes: int | None = None,
        *,
        tenure_s: float = TENURE_S,
        grace_s: float = GRACE_S,
        survey: Callable[[], Awaitable[Machine]] = survey_machine,
        locate: Locate = locate_files,
        clock: Clock | None = None,
    ) -> None:
        self.machine: Machine | None = None
        self.asking = asyncio.Lock()  # whoever begins first asks first, however long looking at files takes
        self._configured_bytes = budget_bytes
        self._residency = Residency(
            inf if budget_bytes is None else budget_bytes, tenure_s=tenure_s, grace_s=grace_s
        )
        self._survey = survey
        self._locate = locate
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._prepared: asyncio.Task[None] | None = None
        self._looking: set[asyncio.Task[None]] = set()
        self._timer: Timer | None = None

    def lease(self, settings: ModelSettings, make_way: Callable[[str], object]) -> Lease:
        """A model's own, without room yet.

        Args:
            settings: the model's.
            make_way: called with the reason when others need its room, or it has expired: it takes no new calls any more, and once it has
                none its process ends and the lease is released.
        """
        lease = self._leases[settings.name] = Lease(self, settings, make_way)
        self.look_again(lease)
        return lease

    def describe(self) -> dict[str, Any]:
        """``total_bytes``, ``budget_bytes`` and ``reserved_bytes``, for ``status``; the first two if they are known."""
        entry: dict[str, Any] = {"reserved_bytes": self._residency.reserved_bytes}
        if self._residency.budget_bytes < inf:
            entry["budget_bytes"] = int(self._residency.budget_bytes)
        if self.machine is not None:
            entry["total_bytes"] = self.machine.memory_bytes
        return entry

    def begin(self) -> asyncio.Task[None]:
        """Find out what there is, and what the configured models need; once."""
        if self._prepared is None:
            self._prepared = asyncio.get_running_loop().create_task(self._prepare())
        return self._prepared

    async def close(self) -> None:
        """Ask nobody any more, and wake for nothing."""
        if self._timer is not None:
            self._timer.cancel()
        if self._prepared is not None:
            tasks = {self._prepared, *self._looking}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def look_again(self, lease: Lease) -> None:
        """A model has come, or is another one, after all others were looked at."""
        if self._prepared is not None:
            task = asyncio.get_running_loop().create_task(self._estimate([lease]))
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)

    async def _prepare(self) -> None:
        await asyncio.gather(self._find_budget(), self._estimate(list(self._leases.values())))

    async def _estimate(self, leases: Sequence[Lease]) -> None:
        """Look at models' files, as far as they are here; what cannot be looked at is for a load to say."""
        sources = {source for lease in leases for source in lease.sources}
        folders = {source: source.folder for source in sources if source.folder is not None}
        if missing := {source.name: source for source in sources if source.folder is None}:
            with contextlib.suppress(BridgeError, OSError):
                async with asyncio.timeout(LOCATE_TIMEOUT_S):
                    found = await self._locate(list(missing))
                folders |= {missing[name]: folder for name, folder in found.items()}
        await asyncio.gather(*(lease.estimate(folders) for lease in leases))

    async def _find_budget(self) -> None:
        try:
            self.machine = machine = await self._survey()
        except Exception as error:  # models are to load all the same
            log.warning("how much memory models may take is not known: %s", error)
            return
        if self._configured_bytes is None:
            self._residency.budget_bytes = machine.usable_bytes
        elif self._configured_bytes > machine.usable_bytes:
            log.warning(
                "models may take %s by --memory, but %s can well use %s",
                shown(self._configured_bytes),
                machine.chip,
                shown(machine.usable_bytes),
            )

    def end(self, lease: Lease) -> None:
        """A model is served no longer."""
        if self._leases.get(lease.name) is lease:
            del self._leases[lease.name]

    # -- for leases --------------------------------------------------------------------------------------------

    @property
    def residency(self) -> Residency:
        """The books."""
        return self._residency

    def now(self) -> float:
        """Seconds on the clock that turns and expiries are counted by."""
        return self._running_clock.time()

    def share_of(self, lease: Lease, need: Need) -> int | None:
        """What a model gets; None: as much as it likes, since nothing is known of the machine.

        Raises:
            ModelTooLarge: it does not fit, even alone.
        """
        budget = self._residency.budget_bytes
        if budget == inf:
            return None
        others = [other.need for other in self._leases.values() if other is not lease]
        return share_of(lease.name, need, others, int(budget))

    def settle(self) -> None:
        """Let come and go who may."""
        decision = self._residency.decide(self.now())
        for name in decision.admitted:
            self._leases[name].admit()
        for name, left in decision.refused:
            self._leases[name].refuse(left)
        for name in decision.leaving:
            is_expired = name in decision.expired
            self._leases[name].make_way(
                "its keep_alive is over" if is_expired else "others wait for its room"
            )
        self._wake_at(decision.wake_at)

    @property
    def _running_clock(self) -> Clock:
        return asyncio.get_running_loop() if self._clock is None else self._clock

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when == inf else self._running_clock.call_at(when, self.settle)


class Lease:
    """One model's part of the memory, over its whole life; without room, waiting for it, or with it.

    Attributes:
        name: the model's.
        need: what its files say; None before that is known.
    """

    def __init__(self, memory: Memory, settings: ModelSettings, make_way: Callable[[str], object]) -> None:
        self.name = settings.name
        self.need: Need | None = None
        self.make_way = make_way
        self._memory = memory
        self._settings = settings
        self._keep_alive_s = settings.keep_alive_s
        self._has_begun = False
        self._answer: asyncio.Future[None] | None = None

    def describe(self) -> dict[str, Any]:
        """What ``models`` and ``status`` tell of it."""
        entry: dict[str, Any] = {"pinned": self._settings.pin, "keep_alive_s": self._keep_alive_s}
        if self.need is not None:
            entry["estimated_bytes"] = self.need.least_bytes
        books = self._memory.residency
        if reserved := books.bytes_of(self.name):
            entry["reserved_bytes"] = reserved
        if (expires_at := books.expires_at(self.name)) < inf:
            entry["expires_in_s"] = max(0.0, expires_at - self._memory.now())
        return entry

    @property
    def sources(self) -> Sequence[ModelSource]:
        """Of the model, and of what is loaded with it."""
        return self._settings.sources

    async def estimate(self, places: Mapping[ModelSource, Path]) -> None:
        """Look at the model's files, unless that has been done, or some are not in these places."""
        settings = self._settings
        folders = [places[source] for source in settings.sources if source in places]
        if self.need is None and len(folders) == len(settings.sources):
            with contextlib.suppress(Exception):  # however odd its files are, other models are to load
                need = await asyncio.to_thread(self._estimate, folders)
                if self._settings is settings:  # still
                    self.need = need

    async def take(
        self, folders: Sequence[Path], *, is_wanted: Callable[[], bool], on_wait: Callable[[], object]
    ) -> int | None:
        """Wait for room, in turn. Cancelling it is giving that up.

        Args:
            folders: with the files of the model, and of those that are loaded with it.
            is_wanted: whether somebody waits for the model; if not, nobody makes way for it.
            on_wait: called if there is no room yet.

        Returns:
            Bytes that the model may take, weights and caches together; None: as many as there are.

        Raises:
            ModelLoadFailed: its files cannot be looked at.
            ModelTooLarge: it does not fit, even alone, or beside those that are pinned.
            NoRoom: nobody wants it, and there is none that is free.
        """
        async with self._memory.asking:
            self.need = await asyncio.to_thread(self._estimate, folders)
            await asyncio.shield(self._memory.begin())
            share = self._ask(self.need, is_wanted=is_wanted())
        if self._answer is not None:
            try:
                self._memory.settle()
                if not self._answer.done():
                    on_wait()
                await self._answer
            except BaseException:
                self.release()
                raise
            finally:
                self._answer = None
        return share

    def _ask(self, need: Need, *, is_wanted: bool) -> int | None:
        """Take room that is free, or stand in line, with ``_answer`` for who is wanted."""
        books = self._memory.residency
        share = self._memory.share_of(self, need)
        if share is not None:
            share = max(need.least_bytes, min(share, int(books.most_bytes)))
        num_bytes = need.least_bytes if share is None else share
        terms: dict[str, Any] = {"is_pinned": self._settings.pin, "keep_alive_s": self._keep_alive_s}
        if is_wanted:
            self._answer = asyncio.get_running_loop().create_future()
            books.ask(self.name, num_bytes, **terms)
        elif not books.ask_now(self.name, num_bytes, **terms):
            raise NoRoom(f"{shown(num_bytes)} for it are not free")
        return share

    def admit(self) -> None:
        """It has room."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    def refuse(self, left_bytes: int) -> None:
        """It never will; pinned models leave so much."""
        if self._answer is not None and not self._answer.done() and self.need is not None:
            pinned = self._memory.residency.pinned
            self._answer.set_exception(too_large(self.name, self.need, left_bytes, pinned))

    def begin_turn(self, *, is_busy: bool) -> None:
        """The model is ready."""
        self._has_begun = True
        self._memory.residency.begin_turn(self.name, self._memory.now(), is_busy=is_busy)
        self._memory.settle()

    def set_busy(self, is_busy: bool) -> None:
        """The model has work now, or has none any more; of no account before its turn has begun."""
        if self._has_begun:
            self._memory.residency.set_busy(self.name, self._memory.now(), is_busy=is_busy)
            self._memory.settle()

    def keep_alive(self, seconds: float | None) -> None:
        """Keep the model for so long after its last call; None: for ever."""
        self._keep_alive_s = seconds
        self._memory.residency.keep_alive(self.name, seconds)
        self._memory.settle()

    def reconfigure(self, settings: ModelSettings) -> None:
        """Other terms: whether the model is pinned, and how long it is kept after its last call; or another model."""
        before, self._settings = self._settings, settings
        if not settings.with_same_worker(before):
            self.need = None
            self._memory.look_again(self)
        self._memory.residency.pin(self.name, settings.pin)
        self.keep_alive(settings.keep_alive_s)

    def end(self) -> None:
        """The model has gone for good."""
        self.release()
        self._memory.end(self)

    def forget_keep_alive(self) -> None:
        """What was asked for counts no more: the model goes. What is asked for from now on is for its next turn."""
        self._keep_alive_s = self._settings.keep_alive_s

    def release(self) -> None:
        """The model's process has ended, or it does not want room any more; twice is fine."""
        self._has_begun = False
        self._memory.residency.leave(self.name)
        self._memory.settle()

    def _estimate(self, folders: Sequence[Path]) -> Need:
        return estimate_need(folders, self._settings.limits, self._settings.adapters.values())
