"""What a model may be called, and which one a name is."""

from __future__ import annotations

from collections.abc import Iterable

from mlxbridge.types import ModelInfo


def names_of(model: ModelInfo) -> tuple[str, ...]:
    """A model's name, and its aliases."""
    return (model.name, *(model.details.get("aliases") or ()))


def names_to_ask(model: ModelInfo) -> tuple[str, ...]:
    """All by which a model is listed: its name, its aliases, and its name with each of its adapters."""
    adapters = model.details.get("adapters") or ()
    return (*names_of(model), *(f"{model.name}+{adapter}" for adapter in adapters))


def find_model(models: Iterable[ModelInfo], name: str | None) -> ModelInfo | None:
    """The one of that name, with that alias, or with that adapter (``NAME+ADAPTER``); without a name the default one."""
    known = list(models)
    if name is None:
        return next((model for model in known if model.details.get("default")), None)
    base, _, adapter = name.partition("+")
    with_adapter = None
    for model in known:
        names = names_of(model)
        if name in names:
            return model
        if base in names and adapter in (model.details.get("adapters") or ()):
            with_adapter = model
    return with_adapter
