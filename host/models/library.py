"""What guests may learn of the models on this machine's disk, and do to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from mlxbridge.errors import BridgeError, InvalidArgument, PermissionDenied, Unavailable
from mlxbridge.host.models.attempt import Progress
from mlxbridge.host.models.catalogue import Catalogue
from mlxbridge.host.models.errand import run_errand
from mlxbridge.host.models.model import Model
from mlxbridge.host.models.pulls import Pulls
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import ModelSource, hub_source

MakeSettings = Callable[[ModelSource], ModelSettings]
"""Says how a model is run that is not configured."""

log = logging.getLogger(__name__)

RECALL_TIMEOUT_S = 30.0
SHOWS_AT_ONCE = 4
"""Each is a process; who asks while there are so many waits."""


class Library:
    """Owns downloads, and knows which models came by them.

    Args:
        catalogue: the models that are served; a model that was pulled is one of them from then on.
        make_settings: None: guests may not pull.
        tell: called with ``"pulled"`` or ``"deleted"`` and the name of a model.

    Attributes:
        make_settings: the same.
        pulled: names of the models that came by downloads, and are not configured.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        make_settings: MakeSettings | None = None,
        tell: Callable[[str, str], object] = lambda what, name: None,
    ) -> None:
        self._catalogue = catalogue
        self.make_settings = make_settings
        self._tell = tell
        self._pulls = Pulls(lambda name: tell("pulled", name))
        self.pulled: set[str] = set()
        self._brought: set[str] = set()  # those whose files were not here before guests pulled them
        self._deletions: dict[str, asyncio.Task[dict[str, Any]]] = {}
        self._may_show = asyncio.Semaphore(SHOWS_AT_ONCE)

    async def show(self, model: Model) -> dict[str, Any]:
        """The model's entry, as ``describe`` has it, and what its files say, see ``store.facts.read_facts``.

        Raises:
            ModelLoadFailed: they are damaged.
        """
        settings = model.settings
        async with self._may_show:
            facts = dict(await run_errand("show", settings.source.to_wire()))
        if settings.source.kind == "hub":
            facts["hub_id"] = settings.source.name
        if settings.draft is not None:
            facts["draft_model"] = settings.draft.name
        if settings.chat_template is not None:
            facts["chat_template"] = settings.chat_template
        if settings.adapters:
            facts["adapters"] = sorted(settings.adapters)
        return {**facts, **model.describe()}

    async def recall(self) -> None:
        """Serve what guests had pulled while the host ran before, as far as it is here still, and if guests may pull."""
        if self.make_settings is None:
            return
        try:
            async with asyncio.timeout(RECALL_TIMEOUT_S):
                found = await run_errand("pulled", {})
        except (BridgeError, OSError, TimeoutError) as error:  # they can be pulled again
            log.warning("what guests had pulled is not known: %s", error or "it took too long")
            return
        for name, is_brought in found["models"].items():
            if is_brought:
                self._brought.add(name)
            if self._catalogue.get(name) is None:
                self._serve(hub_source(name), self.make_settings)

    async def pull(self, name: str, progress: Progress) -> Model:
        """Download the newest version of a hub's model, and serve it.

        Raises:
            PermissionDenied: guests may not pull here.
            ModelNotFound, ModelLoadFailed: it cannot be had, or is no model.
        """
        self._check_may_pull()
        source = hub_source(name)
        if (deletion := self._deletions.get(source.name)) is not None:
            await asyncio.wait({deletion})
        if await self._pulls.pull(source.name, progress):
            self._brought.add(source.name)
        model = self._catalogue.get(source.name)
        if model is None:
            model = self._serve(source, self._check_may_pull())  # a new configuration may have come meanwhile
        return model

    def may_delete(self, model: Model) -> bool:
        """Whether a model's files are a guest's to delete."""
        return self._why_kept(model) is None

    async def delete(self, model: Model, *, force: bool) -> dict[str, Any]:
        """Delete the files of a model that was pulled, and serve it no longer: its ``name``, and ``freed_bytes``.

        Cancelling it lets that go on.

        Raises:
            PermissionDenied: it is the host's own, or its files are.
            InvalidArgument: it is loaded, and not to be unloaded by force.
            Unavailable: it is being downloaded again.
        """
        source = model.settings.source
        if (why := self._why_kept(model)) is not None:
            raise PermissionDenied(why)
        if self._pulls.is_running(source.name):
            raise Unavailable(f"{model.name} is being downloaded; delete it once that has ended")
        if model.state not in ("unloaded", "failed") and not force:
            raise InvalidArgument(
                f"force: {model.name} is {model.state}; true ends its calls and unloads it first",
                details={"field": "force"},
            )
        self.pulled.discard(model.name)
        removal = self._catalogue.remove(model, drain_s=0.0)
        task = asyncio.get_running_loop().create_task(self._delete(model, removal))
        self._deletions[source.name] = task
        task.add_done_callback(lambda _: self._deletions.pop(source.name))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End what is under way."""
        await self._pulls.close()
        for task in self._deletions.values():
            task.cancel()
        await asyncio.gather(*self._deletions.values(), return_exceptions=True)

    def _serve(self, source: ModelSource, make_settings: MakeSettings) -> Model:
        self.pulled.add(source.name)
        return self._catalogue.add(make_settings(source))

    def _why_kept(self, model: Model) -> str | None:
        """Why a model's files are not a guest's to delete; None if they are."""
        if self.make_settings is None or model.name not in self.pulled:
            return f"{model.name} is not a guest's to delete: it is configured on this host, not pulled"
        if model.name not in self._brought:
            return f"{model.name} is not a guest's to delete: its files were on this machine before it was pulled"
        source = model.settings.source
        users = [other.name for other in self._catalogue if other is not model and _uses(other, source)]
        return f"{', '.join(users)} of this host's configuration needs the same files" if users else None

    def _check_may_pull(self) -> MakeSettings:
        if self.make_settings is None:
            raise PermissionDenied(
                "this host fetches no models for guests; whoever runs it can, or can set allow_pull"
            )
        return self.make_settings

    async def _delete(self, model: Model, removal: asyncio.Task[None]) -> dict[str, Any]:
        await asyncio.wait({removal})
        if removal.cancelled():
            raise PermissionDenied(f"{model.name} is not deleted: this host is configured to serve it now")
        self._brought.discard(model.name)
        freed = await run_errand("delete", model.settings.source.to_wire())
        self._tell("deleted", model.name)
        return {"name": model.name, **freed}


def _uses(model: Model, source: ModelSource) -> bool:
    settings = model.settings
    return any(each is not None and each.name == source.name for each in (settings.source, settings.draft))
