"""``mlxbridge-host list``, ``show``, ``pull`` and ``delete``: the models on this machine, whether a host runs or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from mlxbridge.errors import BridgeError, ModelNotFound, UsageError
from mlxbridge.facts import describe_facts, describe_size
from mlxbridge.guest.blocking import Client
from mlxbridge.host.commands.options import config_option
from mlxbridge.host.commands.running import RunningHosts, running_hosts, url_option
from mlxbridge.host.commands.serve import configuration
from mlxbridge.host.config.config import Config
from mlxbridge.host.models.settings import ModelSettings
from mlxbridge.host.models.store import (
    ModelSource,
    cached,
    delete_cached,
    disk_bytes,
    find_cached,
    hub_source,
    list_cached,
    read_facts,
)
from mlxbridge.host.models.store import pull as pull_from_hub
from mlxbridge.progress import ProgressLine

_LOADED = ("loading", "waiting", "ready", "restarting", "draining", "unloading")


def _told(command: Callable[..., None]) -> Callable[..., None]:
    """Ends a command with what was wrong, on one line."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except BridgeError as error:
            raise click.ClickException(error.message) from error

    return wrapped


@click.command("list")
@config_option
@url_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_told
def list_models(config: Path | None, url: str | None, as_json: bool) -> None:
    """List the models that are configured, and those in the hub's cache; with a host that runs, as it has them."""
    made = configuration(config)
    with running_hosts(made, url) as hosts:
        states = _states(hosts)
    entries = _entries(made, states)
    if as_json:
        click.echo(json.dumps(entries, ensure_ascii=False))
        return
    width = max(len(entry["name"]) for entry in entries)
    for entry in entries:
        size = describe_size(entry["disk_bytes"]) if entry["disk_bytes"] else "-"
        click.echo(f"{entry['name']:<{width}}  {size:>9}  {entry['state']:<10}  {entry['source']}")


@click.command()
@config_option
@url_option
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_told
def show(config: Path | None, url: str | None, model: str, as_json: bool) -> None:
    """Show what the files of MODEL say: a configured name, demo, a folder, or a Hugging Face id.

    With --url the host there says it, of a model that it serves.
    """
    made = configuration(config)
    facts = _local_facts(made, model) if url is None else _facts_of_host(made, url, model)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
    else:
        click.echo("\n".join(describe_facts(facts)))


@click.command()
@click.argument("model", metavar="ORG/NAME")
@_told
def pull(model: str) -> None:
    """Download a model from the Hugging Face hub, or its newest version; what was interrupted goes on."""
    source = hub_source(model)
    try:
        folder = pull_from_hub(source.name, ProgressLine(source.name).show)
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; the next pull goes on where this one stopped") from None
    click.echo(f"{source.name} is in {folder}")


@click.command()
@config_option
@url_option
@click.argument("model")
@click.option("--force", is_flag=True, help="Though a host has it loaded, which then ends its calls.")
@_told
def delete(config: Path | None, url: str | None, model: str, force: bool) -> None:
    """Delete the files of MODEL from the hub's cache."""
    made = configuration(config)
    source = _find(made, model).source
    if source.kind == "demo":
        raise UsageError("demo comes with mlxbridge and is not deleted")
    if source.kind == "folder":
        raise UsageError(
            f"{source.folder} is a folder of yours; mlxbridge deletes nothing but what it downloaded"
        )
    find_cached(source.name)  # or a model would be unloaded for nothing
    with running_hosts(made, url) as hosts:
        for client in hosts.clients:
            _unload(client, source.name, force=force)
    if not hosts.clients:
        places = ", ".join(hosts.looked_at)
        click.echo(f"no running host was found at {places}; --url names another place", err=True)
    try:
        freed = delete_cached(source.name)
    except OSError as error:
        raise UsageError(f"cannot delete {error.filename}: {error.strerror}") from error
    click.echo(f"{source.name} is deleted; {describe_size(freed)} are free")


def _local_facts(config: Config, model: str) -> dict[str, Any]:
    """What the files on this machine say, and what is configured.

    Raises:
        ModelNotFound: there are none.
    """
    settings = _find(config, model)
    source = settings.source
    folder = source.folder or cached(source.name)
    if folder is None:
        raise ModelNotFound(_missing(source.name))
    facts: dict[str, Any] = {"name": settings.name, "source": _where(source), **read_facts(folder)}
    facts["aliases"] = list(settings.aliases)
    facts["adapters"] = sorted(settings.adapters)
    if settings.draft is not None:
        facts["draft_model"] = settings.draft.name
    return facts


def _facts_of_host(config: Config, url: str, model: str) -> dict[str, Any]:
    with running_hosts(config, url) as hosts:
        found = hosts.clients[0].show_model(model)
    return {"name": found.name, "state": found.state, "source": found.source, **found.details}


def _missing(hub_id: str) -> str:
    try:
        find_cached(hub_id)
    except ModelNotFound:
        return f"{hub_id} is not here; mlxbridge-host pull {hub_id} fetches it"
    return f"{hub_id} is incomplete here; mlxbridge-host pull {hub_id} goes on where it stopped"


def _unload(client: Client, hub_id: str, *, force: bool) -> None:
    """Make sure that the running host has no model loaded that needs these files.

    Raises:
        UsageError: it has one, and may not be made to unload it.
    """
    for model in client.list_models():
        if model.state in _LOADED and hub_id in _files_of(client, model.name):
            if not force:
                raise UsageError(
                    f"{model.name} is {model.state} and needs these files; --force unloads it first"
                )
            client.unload_model(model.name)


def _states(hosts: RunningHosts) -> dict[str, str]:
    """States by the names that models have at the hosts, and by the hub ids of the files that loaded ones need."""
    states: dict[str, str] = {}
    for client in hosts.clients:
        for model in client.list_models():
            states.setdefault(model.name, model.state)
            if model.state in _LOADED:
                for hub_id in filter(None, _files_of(client, model.name)):
                    states.setdefault(hub_id, model.state)
    return states


def _files_of(client: Client, name: str) -> set[Any]:
    details = client.show_model(name).details
    return {details.get("hub_id"), details.get("draft_model")}


def _find(config: Config, name: str) -> ModelSettings:
    """A configured model, by name or alias, or whatever else the name stands for."""
    for settings in config.models:
        if name in (settings.name, *settings.aliases):
            return settings
    return ModelSettings.of(name)


def _entries(config: Config, states: dict[str, str]) -> list[dict[str, Any]]:
    here = {model.hub_id: model for model in list_cached()}
    entries = []
    for settings in config.models:
        source = settings.source
        if source.folder is not None:
            size, state = disk_bytes(source.folder), "here"
        elif source.name in here:
            size, state = here[source.name].disk_bytes, _state(here[source.name].is_complete)
        else:
            size, state = 0, "not here"
        state = states.get(settings.name, state)
        entries.append(_entry(settings.name, _where(source), size, state, is_configured=True))
    used = {settings.source.name for settings in config.models if settings.source.kind == "hub"}
    for name, model in here.items():
        if name not in used:
            state = states.get(name, _state(model.is_complete))
            entries.append(_entry(name, "hub", model.disk_bytes, state, is_configured=False))
    return entries


def _entry(name: str, source: str, size: int, state: str, *, is_configured: bool) -> dict[str, Any]:
    return {"name": name, "source": source, "disk_bytes": size, "state": state, "configured": is_configured}


def _state(is_complete: bool) -> str:
    return "here" if is_complete else "incomplete"


def _where(source: ModelSource) -> str:
    if source.kind == "hub":
        return f"hub {source.name}"
    return str(source.folder) if source.kind == "folder" else source.kind
