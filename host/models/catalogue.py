"""The models this host was told to serve, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from mlxbridge.errors import InvalidArgument, ModelNotFound, UsageError
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.models.model import Model
from mlxbridge.host.models.store import classify
from mlxbridge.host.params import nearest

_LIMITS = EngineLimits()


class Catalogue:
    """Owns the models.

    Args:
        names: what ``--model`` was given: ``demo``, folders, Hugging Face ids.
        limits: how much each model takes on.
        drafts: by one of these names, that of the model that drafts for it.

    Raises:
        UsageError: two models would have the same name.
        ModelNotFound, ModelLoadFailed: a name stands for nothing that could be a model.
    """

    def __init__(
        self,
        names: Iterable[str],
        limits: EngineLimits = _LIMITS,
        drafts: Mapping[str, str] | None = None,
    ) -> None:
        self._models: dict[str, Model] = {}
        for name in names:
            source = classify(name)
            if source.name in self._models:
                raise UsageError(f"--model {name}: there is a model named {source.name} already")
            draft = None if drafts is None else drafts.get(name)
            self._models[source.name] = Model(source, limits, None if draft is None else classify(draft))

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
        model = self._models.get(name)
        if model is None:
            near = nearest(name, self._models)
            hint = f"did you mean {near!r}?" if near else f"it serves {', '.join(self._models)}"
            raise ModelNotFound(f"this host has no model {name[:200]!r}; {hint}", details={"field": "model"})
        return model

    def start_all(self) -> None:
        """Begin to load every model."""
        for model in self:
            model.start()

    async def close(self) -> None:
        """Unload every model."""
        await asyncio.gather(*(model.unload() for model in self))
