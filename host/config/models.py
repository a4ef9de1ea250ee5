"""The models to serve: their tables, the defaults below them, and what the command line says above."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlxbridge.errors import BridgeError, UsageError
from mlxbridge.host.config.limits import make_limits
from mlxbridge.host.config.overrides import DRAFT_MODELS, MODELS, Overrides, pair_drafts
from mlxbridge.host.config.problems import Problems
from mlxbridge.host.config.schema import TEXT_LIMITS, ForModels, HostTable, ModelTable
from mlxbridge.host.engine.checkpoint import ADAPTER_WEIGHTS
from mlxbridge.host.engine.interface import EngineLimits
from mlxbridge.host.models.kind import kind_of
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import DEMO, classify
from mlxbridge.host.params import nearest


def choose_tables(table: HostTable, overrides: Overrides, problems: Problems) -> dict[str, ModelTable]:
    """Tables by name: of the models that the command line names, also by aliases, else of those in the file, else of the demo.

    One that the command line names is loaded at the start, unless its table says otherwise.
    """
    texts = list(dict.fromkeys(overrides.models or ([] if table.models else [DEMO])))
    chosen = dict(table.models)
    names = {}
    owners = {alias: name for name, own in table.models.items() for alias in own.aliases}
    if texts:
        chosen.clear()
    for text in texts:
        name = text if text in table.models else owners.get(text, text)
        own = table.models.get(name)
        if own is None:
            try:
                source = classify(text)
            except BridgeError as error:
                problems.add(MODELS, error.message + _configured(text, (*table.models, *owners)))
                continue
            name, own = source.name, ModelTable().model_copy(update={"source": source})
        if name in chosen:
            problems.add(MODELS, f"two models would be named {name}")
        names[text] = name
        chosen[name] = own.model_copy(
            update={"preload": "preload" not in own.model_fields_set or own.preload}
        )
    try:
        drafts = pair_drafts(texts or list(chosen), overrides.draft_models)
    except UsageError as error:
        problems.add(DRAFT_MODELS, error.message)
        return chosen
    for text, draft in drafts.items():
        try:
            draft_source = classify(draft)
        except BridgeError as error:
            problems.add(DRAFT_MODELS, error.message)
            continue
        name = names.get(text, text)
        if name in chosen:
            chosen[name] = chosen[name].model_copy(update={"draft_model": draft_source})
    return chosen


def make_models(
    tables: Mapping[str, ModelTable], defaults: ForModels, problems: Problems, folder: Path | None
) -> tuple[ModelSettings, ...]:
    """The settings of all models, as far as nothing is wrong with them.

    Args:
        folder: of the file, at which a name begins that is a path; None if there is no file.
    """
    _check_names(tables, problems)
    made = [_make_model(name, own, defaults, problems, folder) for name, own in tables.items()]
    return tuple(settings for settings in made if settings is not None)


def keep_alive_s(table: ForModels) -> float | None:
    """Seconds, None for ever."""
    return None if math.isinf(table.keep_alive) else table.keep_alive


def _make_model(
    name: str, own: ModelTable, defaults: ForModels, problems: Problems, folder: Path | None
) -> ModelSettings | None:
    key = ("models", name)
    source = own.source
    if source is None:
        try:
            source = classify(name, folder)
        except BridgeError as error:
            problems.add(key, f"it has no source, and its name is none: {error.message}")
    template = _read_template(own, name, problems)
    if own.pin and "keep_alive" in own.model_fields_set:
        problems.add((*key, "keep_alive"), "a pinned model is never unloaded; leave out this or pin")
    merged = defaults.under(own)
    try:
        limits = make_limits(merged)
    except UsageError as error:
        field = str(error.details.get("field", ""))
        problems.add((*key, field) if field in own.model_fields_set else ("defaults", field), error.message)
        limits = EngineLimits()
    for adapter, folder in own.adapters.items():
        if not os.path.isdir(folder):
            problems.add((*key, "adapters", adapter), f"there is no folder {folder}")
        elif not (folder / ADAPTER_WEIGHTS).is_file():
            problems.add((*key, "adapters", adapter), f"{folder} has no {ADAPTER_WEIGHTS}")
    if source is None:
        return None
    settings = ModelSettings(
        name=name,
        source=source,
        aliases=tuple(own.aliases),
        draft=own.draft_model,
        adapters={adapter: str(folder) for adapter, folder in own.adapters.items()},
        preload=own.preload,
        pin=own.pin,
        keep_alive_s=keep_alive_s(merged),
        max_context=own.max_context,
        chat_template=template,
        sampling=own.sampling,
        limits=limits,
        own_limits=tuple(name for name in TEXT_LIMITS if name in own.model_fields_set),
    )
    if source.folder is not None and (kind := kind_of(source.folder)) != "generate":
        what = "an embedding model" if kind == "embed" else "a reranker"
        for name in settings.text_keys:
            problems.add((*key, name), f"{source.folder} is {what}, which has no use for it")
    return settings


def _configured(wrong: str, names: Sequence[str]) -> str:
    """What else could have been meant; nothing if nothing is configured."""
    if not names:
        return ""
    near = nearest(wrong, names)
    meant = f"; did you mean {near}?" if near else ""
    return f"; configured are {', '.join(sorted(names))}{meant}"


def _check_names(tables: Mapping[str, ModelTable], problems: Problems) -> None:
    owners = {name: name for name in tables}
    for name, own in tables.items():
        for alias in own.aliases:
            owner = owners.setdefault(alias, name)
            if owner != name or alias == name:
                problems.add(("models", name, "aliases"), f"{alias} is the name of {owner} already")


def _read_template(own: ModelTable, name: str, problems: Problems) -> str | None:
    if own.chat_template is None:
        return None
    from mlxbridge.host.engine.text.template import (
        check_template,
    )  # jinja2 takes its time, and most do without

    key = ("models", name, "chat_template")
    try:
        template = own.chat_template.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problems.add(key, f"cannot read {own.chat_template}: {error}")
        return None
    try:
        check_template(template)
    except ValueError as error:
        problems.add(key, f"{own.chat_template} is no template: {error}")
    return template
