"""What flags and environment variables say, which wins over the file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlxbridge.errors import UsageError
from mlxbridge.host.config.origins import Key
from mlxbridge.host.config.schema import ForModels, GatewayTable, HostTable

MODELS: Key = ("model",)
DRAFT_MODELS: Key = ("draft_model",)
"""Names in ``Overrides.names`` for the models of the command line, which are no keys of the file."""
GATEWAY = "gateway"
_TABLES = (GATEWAY, "defaults", "models")
FLAG_KEYS: tuple[Key, ...] = (
    *((name,) for name in HostTable.model_fields if name not in _TABLES),
    *((GATEWAY, name) for name in GatewayTable.model_fields),
    *(("defaults", name) for name in ForModels.model_fields),
)
"""The keys that are flags and variables, too."""


def option_name(key: Key) -> str:
    """What the option of a key is called, with underscores: those of ``[gateway]`` have its name before their own."""
    if key[0] != GATEWAY:
        return key[-1]
    return GATEWAY if key[-1] == "enabled" else f"{GATEWAY}_{key[-1]}"


_NAMES = [option_name(key) for key in FLAG_KEYS]
_WORDS = re.compile(rf"\b(?:{'|'.join(name for name in _NAMES if '_' in name)})\b")
_ENVIRONMENT = "MLXBRIDGE_HOST_"


def flag(name: str) -> str:
    """The option that sets a key of that name."""
    return f"--{name.replace('_', '-')}"


def variable(name: str) -> str:
    """The environment variable that sets a key of that name."""
    return _ENVIRONMENT + name.upper()


def as_flags(text: str) -> str:
    """A text with the names of keys as who types options knows them."""
    return _WORDS.sub(lambda found: flag(found[0]), text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Values by key, as texts; and the models of the command line.

    Attributes:
        values: for keys of ``FLAG_KEYS``.
        names: of the flag or variable that each came from.
        models: those to serve and no others, if any is named: names of configured ones, or what ``store.classify`` takes.
        draft_models: ``DRAFT`` where there is one model, else ``MODEL=DRAFT``.
    """

    values: Mapping[Key, Any] = field(default_factory=dict)
    names: Mapping[Key, str] = field(default_factory=dict)
    models: Sequence[str] = ()
    draft_models: Sequence[str] = ()

    def table(self) -> dict[str, Any]:
        """The values as a file would have them."""
        table: dict[str, Any] = {}
        for (*outer, name), value in self.values.items():
            inner = table
            for part in outer:
                inner = inner.setdefault(part, {})
            inner[name] = value
        return table


def pair_drafts(models: Sequence[str], texts: Sequence[str]) -> dict[str, str]:
    """Draft models by the model that each drafts for.

    Args:
        models: as ``--model`` gave them.
        texts: ``DRAFT`` where there is one model, else ``MODEL=DRAFT``.

    Raises:
        UsageError: it is not said for which, or two are for one.
    """
    drafts: dict[str, str] = {}
    for text in texts:
        model, equals, draft = text.partition("=")
        if not equals or model not in models:
            model, draft = models[0], text
            if len(models) > 1:
                raise UsageError(
                    f"{text} does not begin with one of {', '.join(models)} and =; say for which it is"
                )
        if model in drafts:
            raise UsageError(f"{model} has two, {drafts[model]} and {draft}")
        drafts[model] = draft
    return drafts
