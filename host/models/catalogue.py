"""The models this host was told to serve, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from mlxbridge.errors import InvalidArgument, ModelNotFound, UsageError
from mlxbridge.host.models.memory import Memory
from mlxbridge.host.models.model import Model
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.params import nearest


class Catalogue:
    """Owns the models.

    Args:
        models: what was configured.
        memory: what they share; None: what the machine has.

    Attributes:
        memory: the same.

    Raises:
        UsageError: two models would have the same name.
    """

    def __init__(self, models: Iterable[ModelSettings], memory: Memory | None = None) -> None:
        self.memory = Memory() if memory is None else memory
        self._models: dict[str, Model] = {}
        self._by_name: dict[str, Model] = {}  # and by alias
        for settings in models:
            model = self._models[settings.name] = Model(settings, self.memory)
            for name in (settings.name, *settings.aliases):
                if name in self._by_name:
                    raise UsageError(f"two models would be named {name}")
                self._by_name[name] = model

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def find(self, name: str | None) -> Model:
        """The model of that name; the only one, if none is named.

        Raises:
            ModelNotFound: there is none; the message lists those there are.
            InvalidArgument: none is named and there are several.
        """
        if name is None:
            if len(self._models) == 1:
                return next(iter(self._models.values()))
            raise InvalidArgument(f"model: name one of {', '.join(self._models)}", details={"field": "model"})
        model = self._by_name.get(name)
        if model is None:
            near = nearest(name, self._by_name)
            hint = f"did you mean {near!r}?" if near else f"it serves {', '.join(self._models)}"
            raise ModelNotFound(f"this host has no model {name[:200]!r}; {hint}", details={"field": "model"})
        return model

    def preload(self) -> None:
        """Begin to load the models that are to be ready from the start, as far as there is room: the pinned ones first."""
        self.memory.begin()
        for model in sorted(self, key=lambda model: not model.settings.pin):
            if model.settings.preload:
                model.start()

    async def close(self) -> None:
        """Unload every model."""
        await asyncio.gather(*(model.unload() for model in self))
        await self.memory.close()
