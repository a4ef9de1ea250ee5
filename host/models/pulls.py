"""Downloads that guests asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from mlxbridge.errors import BridgeError, InternalError
from mlxbridge.host.models.attempt import Attempt, Progress
from mlxbridge.host.models.errand import run_errand

log = logging.getLogger(__name__)

PULLS_AT_ONCE = 4
"""Each is a process with several connections; who asks for another model while there are so many waits."""


class Pulls:
    """Owns them: one a model, in a process of its own, for all who wait for it. It ends when nobody does any more.

    Args:
        on_pulled: called with the name of each that has come.
    """

    def __init__(self, on_pulled: Callable[[str], object] = lambda name: None) -> None:
        self._on_pulled = on_pulled
        self._running: dict[str, tuple[Attempt, asyncio.Task[bool]]] = {}
        self._may_run = asyncio.Semaphore(PULLS_AT_ONCE)

    def is_running(self, hub_id: str) -> bool:
        """Whether somebody waits for it."""
        return hub_id in self._running

    async def pull(self, hub_id: str, progress: Progress) -> bool:
        """Have the newest version of a model on this machine. Cancelling it ends the download, unless somebody else waits.

        Returns:
            Whether guests have brought it, now or before; else some version of it was here without them.

        Raises:
            ModelNotFound, ModelLoadFailed: see ``store.pull``.
        """
        if hub_id not in self._running:
            attempt = Attempt()
            task = asyncio.get_running_loop().create_task(self._run(hub_id, attempt))
            self._running[hub_id] = attempt, task
        attempt, task = self._running[hub_id]
        try:
            await attempt.wait(progress)
        finally:
            if not attempt.is_over and attempt.num_waiting == 0:
                self._forget(hub_id, attempt)
                task.cancel()
        return task.result()

    async def close(self) -> None:
        """End them all; what has come is kept for the next time."""
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, hub_id: str, attempt: Attempt) -> bool:
        try:
            async with self._may_run:
                pulled = await run_errand("pull", {"name": hub_id}, attempt.tell)
            attempt.succeed()
            self._on_pulled(hub_id)
            return bool(pulled["brought"])
        except BridgeError as error:
            attempt.fail(error)
        except Exception as error:
            log.exception("the download of %s broke", hub_id)
            attempt.fail(InternalError(f"cannot download {hub_id}: {type(error).__name__}: {error}"))
        finally:
            self._forget(hub_id, attempt)
        return False

    def _forget(self, hub_id: str, attempt: Attempt) -> None:
        """Who comes from now on begins anew."""
        if hub_id in self._running and self._running[hub_id][0] is attempt:
            del self._running[hub_id]
