"""The models this host was told to serve, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mlxbridge.errors import InvalidArgument, ModelNotFound, UsageError
from mlxbridge.host.models.memory import Memory
from mlxbridge.host.models.model import Model
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.params import nearest


@dataclass(slots=True)
class Changes:
    """Names of models that are served now, or no longer, or otherwise; those ``reloaded`` have to be loaded again for that."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    reloaded: list[str] = field(default_factory=list)


class Catalogue:
    """Owns the models.

    Args:
        models: what was configured.
        memory: what they share; None: what the machine has.
        on_state: called with a model whenever its state has changed.
        default: see below.

    Attributes:
        memory: the same.
        default: name of the model for calls that name none; None: the only one there is.

    Raises:
        UsageError: two models would have the same name.
    """

    def __init__(
        self,
        models: Iterable[ModelSettings],
        memory: Memory | None = None,
        on_state: Callable[[Model], object] = lambda model: None,
        default: str | None = None,
    ) -> None:
        self._on_state = on_state
        self.default = default
        self.memory = Memory() if memory is None else memory
        self._models: dict[str, Model] = {}
        self._by_name: dict[str, Model] = {}  # and by alias
        self._retiring: dict[str, tuple[Model, asyncio.Task[None]]] = {}
        for settings in models:
            self.add(settings)

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def find(self, name: str | None) -> Model:
        """The model of that name; the default one, if none is named.

        Raises:
            ModelNotFound: there is none; the message lists those there are.
            InvalidArgument: none is named, there are several, and none of them is the default.
        """
        if name is None:
            if (default := self._default_model()) is not None:
                return default
            raise InvalidArgument(
                f"model: name one of {', '.join(self._models)}; this host has no default_model",
                details={"field": "model"},
            )
        model = self._by_name.get(name)
        if model is None:
            near = nearest(name, self._by_name)
            hint = f"did you mean {near!r}?" if near else f"it serves {', '.join(self._models)}"
            raise ModelNotFound(f"this host has no model {name[:200]!r}; {hint}", details={"field": "model"})
        return model

    def _default_model(self) -> Model | None:
        if len(self._models) == 1:
            return next(iter(self._models.values()))
        return self._models.get(self.default or "")

    def describe(self) -> list[dict[str, Any]]:
        """The models as they are now: the RESULT of ``models`` (SPEC.md §10)."""
        default = self._default_model()
        return [{**model.describe(), "default": model is default} for model in self]

    def choose(self, name: str | None) -> tuple[Model, str | None]:
        """The model that is to run a call, and with which of its adapters: ``MODEL+ADAPTER`` names both.

        Raises:
            ModelNotFound, InvalidArgument: as ``find``, or the model has no such adapter.
        """
        base, plus, adapter = (name or "").rpartition("+")
        if not plus or name in self._by_name or base not in self._by_name:
            return self.find(name), None
        model = self._by_name[base]
        if adapter not in (known := model.settings.adapters):
            near = nearest(adapter, known)
            hint = f"did you mean {near!r}?" if near else f"it has {', '.join(known) or 'none'}"
            raise ModelNotFound(
                f"{base} has no adapter {adapter[:200]!r}; {hint}", details={"field": "model"}
            )
        return model, adapter

    def get(self, name: str) -> Model | None:
        """The model of that name or alias, if there is one."""
        return self._by_name.get(name)

    def add(self, settings: ModelSettings) -> Model:
        """Serve one more model.

        Raises:
            UsageError: another one has its name, or one of its aliases.
        """
        for name in (settings.name, *settings.aliases):
            if name in self._by_name:
                raise UsageError(f"two models would be named {name}")
        model = self._models[settings.name] = self._make(settings)
        self._index()
        return model

    def serve(self, models: Iterable[ModelSettings], *, drain_s: float) -> Changes:
        """Serve these models, whose names differ, and no others; what they are now is changed as far as it differs.

        Args:
            drain_s: see ``remove``.
        """
        wanted = {settings.name: settings for settings in models}
        changes = Changes()
        for model in [model for model in self if model.name not in wanted]:
            self.remove(model, drain_s=drain_s)
            changes.removed.append(model.name)
        for name, settings in wanted.items():
            if name not in self._models:
                self._models[name] = self._make(settings)
                changes.added.append(name)
            elif self._models[name].settings != settings:
                is_reloaded = self._models[name].reconfigure(settings)
                (changes.reloaded if is_reloaded else changes.changed).append(name)
        self._index()
        return changes

    def remove(self, model: Model, *, drain_s: float) -> asyncio.Task[None]:
        """Serve a model no longer; it ends when its calls have ended, or after ``drain_s`` seconds. When that is done."""
        del self._models[model.name]
        self._index()
        task = asyncio.get_running_loop().create_task(model.retire(drain_s))
        self._retiring[model.name] = model, task
        task.add_done_callback(lambda _: self._forget(model.name, task))
        return task

    def preload(self) -> None:
        """Begin to load the models that are to be ready from the start, as far as there is room: the pinned ones first."""
        self.memory.begin()
        for model in sorted(self, key=lambda model: not model.settings.pin):
            if model.settings.preload:
                model.start()

    def set_log(self) -> None:
        """Have every model's process log as this one does now."""
        for model in self._all:
            model.set_log()

    async def close(self) -> None:
        """Unload every model."""
        await asyncio.gather(*(model.unload("the host stops") for model in self._all))
        await self.memory.close()

    @property
    def _all(self) -> list[Model]:
        """Those that are served, and those that are not any more, but have not ended."""
        return [*self, *(model for model, _ in self._retiring.values())]

    def _make(self, settings: ModelSettings) -> Model:
        model, task = self._retiring.pop(settings.name, (None, None))
        if model is None or task is None or task.done():
            return Model(settings, self.memory, self._on_state)
        task.cancel()  # it comes back before it has gone
        model.reconfigure(settings)
        return model

    def _index(self) -> None:
        self._by_name = {
            name: model for model in self for name in (model.settings.name, *model.settings.aliases)
        }

    def _forget(self, name: str, task: asyncio.Task[None]) -> None:
        if name in self._retiring and self._retiring[name][1] is task:
            del self._retiring[name]
