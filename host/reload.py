"""What a new configuration changes while the daemon runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from mlxbridge.facts import describe_size
from mlxbridge.host.config.config import Config
from mlxbridge.host.config.schema import field_of
from mlxbridge.host.models.catalogue import Catalogue, Changes
from mlxbridge.host.models.library import Library
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.server.listener import Listener
from mlxbridge.logs import set_format, set_level

log = logging.getLogger(__name__)

_FIXED = {"listens": "listen", "memory_bytes": "memory", "metrics": "metrics"}
"""Keys that only a restart changes, by what ``Config`` calls them."""


def keep_fixed(running: Config, read: Config) -> Config:
    """What was read, but as the host runs where only a restart changes that; logs where they differ."""
    for name, key in _FIXED.items():
        now, then = getattr(running, name), getattr(read, name)
        if now != then:
            log.warning(
                "%s cannot change from %s to %s while the host runs; restart it",
                key,
                _shown(key, now),
                _shown(key, then),
            )
    return replace(read, **{name: getattr(running, name) for name in _FIXED})


def reload(
    before: Config, after: Config, *, catalogue: Catalogue, library: Library, listener: Listener
) -> Changes:
    """Change what can be, and log what was changed; what became of models."""
    set_level(after.log_level)
    set_format(after.log_format)
    catalogue.set_log()
    library.make_settings = after.make_settings
    listener.away.grace_s = after.resume_grace_s
    if before.tokens != after.tokens:
        log.info("other tokens: %d guests had to leave", listener.change_tokens(after.tokens))
    changes = catalogue.serve(
        [*after.models, *_pulled(after, catalogue, library)], drain_s=after.drain_timeout_s
    )
    catalogue.default = after.default_model
    for change in fields(changes):
        if names := getattr(changes, change.name):
            log.info("models %s: %s", change.name, ", ".join(names))
    for settings in after.models:
        if settings.preload and settings.name in (*changes.added, *changes.reloaded):
            catalogue.find(settings.name).start()
    return changes


def _pulled(after: Config, catalogue: Catalogue, library: Library) -> Iterator[ModelSettings]:
    """The models that guests have pulled, but for those whose names are configured now."""
    names = {name for settings in after.models for name in (settings.name, *settings.aliases)}
    for name in list(library.pulled):
        model = catalogue.get(name)
        if model is None or name in names or after.make_settings is None:
            library.pulled.discard(name)
        else:
            yield after.make_settings(model.settings.source)


def _shown(key: str, value: Any) -> str:
    if value is None:
        extra: Any = field_of((key,)).json_schema_extra
        return str(extra["unset"])
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return describe_size(value) if isinstance(value, int) else str(value)
