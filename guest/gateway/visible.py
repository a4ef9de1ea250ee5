"""What a caller is shown of the host's models: what she may ask for, by the names by which she may.

The keys file may give her models by their names, by aliases, and with adapters (``NAME+ADAPTER``). What goes by another name
than those is not there for her, and one that is has no other name: whether a model that is not hers exists, she cannot tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlxbridge.guest.gateway.callers import Caller
from mlxbridge.guest.gateway.problem import Problem
from mlxbridge.model_names import find_model
from mlxbridge.types import ModelInfo


def visible_to(caller: Caller, models: Sequence[ModelInfo]) -> list[ModelInfo]:
    """The models as a caller may know them; one that she may ask by several names has the others as aliases."""
    if caller.models is None:
        return list(models)
    return [seen for model in models if (seen := _seen(caller, model, models)) is not None]


def visible_name(caller: Caller, models: Sequence[ModelInfo], name: str) -> str | None:
    """What a caller may know a model as which the host calls so; None if it is none of hers."""
    if caller.may_use(name):
        return name
    model = find_model(models, name)
    seen = None if model is None else _seen(caller, model, models)
    return None if seen is None else seen.name


def no_model(caller: Caller) -> Problem:
    """What a caller with models of her own is told of any other one, and of one of hers that there is not."""
    names = ", ".join(caller.models or ()) or "none"
    why = f"model not found: this key may use {names}"
    return Problem(404, why, code="model_not_found", field="model")


def _seen(caller: Caller, model: ModelInfo, models: Sequence[ModelInfo]) -> ModelInfo | None:
    names = [name for name in dict.fromkeys(caller.models or ()) if find_model(models, name) is model]
    if not names:
        return None
    name, *others = names
    source = model.source if name == model.name else ""  # it may tell the name
    return replace(
        model, name=name, source=source, details={**model.details, "aliases": others, "adapters": []}
    )
