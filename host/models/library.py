"""What guests may learn of the models on this machine's disk, and do to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlxbridge.errors import InvalidArgument, PermissionDenied
from mlxbridge.host.models.attempt import Progress
from mlxbridge.host.models.catalogue import Catalogue
from mlxbridge.host.models.errand import run_errand
from mlxbridge.host.models.model import Model
from mlxbridge.host.models.pulls import Pulls
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import ModelSource, hub_source

MakeSettings = Callable[[ModelSource], ModelSettings]
"""Says how a model is run that is not configured."""


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

    async def show(self, model: Model) -> dict[str, Any]:
        """The model's entry, as ``describe`` has it, and what its files say, see ``store.facts.read_facts``.

        Raises:
            ModelLoadFailed: they are damaged.
        """
        settings = model.settings
        facts = dict(await run_errand("show", settings.source.to_wire()))
        if settings.source.kind == "hub":
            facts["hub_id"] = settings.source.name
        if settings.draft is not None:
            facts["draft_model"] = settings.draft.name
        if settings.adapters:
            facts["adapters"] = sorted(settings.adapters)
        return {**facts, **model.describe()}

    async def pull(self, name: str, progress: Progress) -> Model:
        """Download the newest version of a hub's model, and serve it.

        Raises:
            PermissionDenied: guests may not pull here.
            ModelNotFound, ModelLoadFailed: it cannot be had, or is no model.
        """
        if self.make_settings is None:
            raise PermissionDenied(
                "this host fetches no models for guests; whoever runs it can, or can set allow_pull"
            )
        source = hub_source(name)
        await self._pulls.pull(source.name, progress)
        model = self._catalogue.get(source.name)
        if model is None:
            self.pulled.add(source.name)
            model = self._catalogue.add(self.make_settings(source))
        return model

    async def delete(self, model: Model, *, force: bool) -> dict[str, Any]:
        """Delete the files of a model that was pulled, and serve it no longer: its ``name``, and ``freed_bytes``.

        Raises:
            PermissionDenied: it is the host's own.
            InvalidArgument: it is loaded, and not to be unloaded by force.
        """
        source = model.settings.source
        if self.make_settings is None or model.name not in self.pulled:
            raise PermissionDenied(
                f"{model.name} is not a guest's to delete: it is configured on this host, not pulled"
            )
        users = [other.name for other in self._catalogue if other is not model and _uses(other, source)]
        if users:
            raise PermissionDenied(f"{', '.join(users)} of this host's configuration needs the same files")
        if model.state not in ("unloaded", "failed") and not force:
            raise InvalidArgument(
                f"force: {model.name} is {model.state}; true ends its calls and unloads it first",
                details={"field": "force"},
            )
        self.pulled.discard(model.name)
        await self._catalogue.remove(model, drain_s=0.0)
        freed = await run_errand("delete", source.to_wire())
        self._tell("deleted", model.name)
        return {"name": model.name, **freed}

    async def close(self) -> None:
        """End what is under way."""
        await self._pulls.close()


def _uses(model: Model, source: ModelSource) -> bool:
    settings = model.settings
    return any(each is not None and each.name == source.name for each in (settings.source, settings.draft))
