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
from mlxbridge.host.models.lease import Lease
from mlxbridge.host.models.machine import Machine, survey_machine
from mlxbridge.host.models.need import Need, share_of, shown
from mlxbridge.host.models.residency import GRACE_S, TENURE_S, Residency
from mlxbridge.host.models.settings import ModelSettings

LOCATE_TIMEOUT_S = 30.0

Locate = Callable[[Sequence[str]], Awaitable[Mapping[str, Path]]]

log = logging.getLogger(__name__)


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
