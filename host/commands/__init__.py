"""The commands of ``mlxbridge-host``, a module for each or for each group of them."""

from __future__ import annotations

import click

from mlxbridge import __version__
from mlxbridge.host.commands.config import config, init
from mlxbridge.host.commands.serve import serve
from mlxbridge.host.commands.service import service
from mlxbridge.host.commands.store import delete, list_models, pull, show


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mlxbridge-host")
def cli() -> None:
    """Serve MLX models to Linux containers and VMs."""


cli.add_command(serve)
cli.add_command(init)
cli.add_command(config)
cli.add_command(service)
for command in (list_models, show, pull, delete):
    cli.add_command(command)
