"""One model's part of the memory that models share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlxbridge.host.models.need import Need, estimate_need, shown, too_large
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import ModelSource

if TYPE_CHECKING:
    from mlxbridge.host.models.memory import Memory


class NoRoom(Exception):
    """There is no room that is free, and nobody waits for the model."""


class Lease:
    """Over the model's whole life: without room, waiting for it, or with it.

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
            entry |= {"kind": self.need.kind, "estimated_bytes": self.need.least_bytes}
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
