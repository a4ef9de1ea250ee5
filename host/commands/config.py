"""``mlxbridge-host init`` and ``mlxbridge-host config``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlxbridge.errors import BridgeError
from mlxbridge.host.commands.options import chosen_file, config_option, key_options, read_overrides
from mlxbridge.host.config.config import read_config
from mlxbridge.host.config.effective import describe_effective
from mlxbridge.host.config.overrides import Overrides
from mlxbridge.host.config.places import config_file
from mlxbridge.host.config.template import write_template
from mlxbridge.host.models.settings import ModelSettings


@click.command()
@config_option
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init(config: Path | None, force: bool) -> None:
    """Write a configuration in which every key is explained."""
    path = config or config_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # "x" fails if the file is there, whoever has made it meanwhile.
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(write_template())
    except FileExistsError as error:
        raise click.ClickException(f"{path} is there already; --force replaces it") from error
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
    click.echo(f"{path} is written; edit it, then: mlxbridge-host config check")


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@config_option
def check(file: Path | None, config: Path | None) -> None:
    """Tell all that is wrong with the configuration, in FILE, which --config may name too, or in the usual place."""
    path = chosen_file(file or config)
    if path is None:
        raise click.ClickException(f"there is no {config_file()}; mlxbridge-host init writes one")
    try:
        made = read_config(path, Overrides())
    except BridgeError as error:
        click.echo(error.message, err=True)
        raise SystemExit(1) from None
    click.echo(f"{path} is good")
    click.echo(f"listens on {', '.join(map(str, made.listens))}")
    for model in made.models:
        click.echo(f"model {_describe(model)}")


@config.command()
@config_option
@key_options
@click.pass_context
def show(context: click.Context, /, config: Path | None, **_: Any) -> None:
    """Show what holds in the end, of file, variables and options, and where each value comes from."""
    try:
        for line in describe_effective(chosen_file(config), read_overrides(context)):
            click.echo(line)
    except BridgeError as error:
        raise click.ClickException(error.message) from error


def _describe(model: ModelSettings) -> str:
    source = model.source
    parts = [
        model.name if source.folder is None or source.kind == "demo" else f"{model.name} in {source.folder}"
    ]
    if source.kind == "hub" and source.name != model.name:
        parts[0] += f", {source.name} of the hub"
    parts += [f"also {alias}" for alias in model.aliases]
    parts += ["loaded at the start"] * model.preload + ["pinned"] * model.pin
    return ", ".join(parts)
