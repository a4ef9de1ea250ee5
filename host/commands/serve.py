"""``mlxbridge-host serve``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import uvloop

from mlxbridge.errors import BridgeError
from mlxbridge.host.commands.options import chosen_file, config_option, key_options, read_overrides
from mlxbridge.host.config.config import Config, read_config
from mlxbridge.host.daemon import Daemon
from mlxbridge.logs import start_logging


@click.command()
@config_option
@key_options
@click.pass_context
def serve(context: click.Context, /, config: Path | None, **_: Any) -> None:
    """Listen for guests and run the models they ask for.

    Every option is a key of the configuration, too, and the environment variable MLXBRIDGE_HOST_ with its name:
    MLXBRIDGE_HOST_MAX_BATCH for --max-batch. An option wins over a variable, a variable over the file.
    """
    overrides = read_overrides(context)

    def read() -> Config:
        return read_config(chosen_file(config), overrides)

    try:
        made = read()
    except BridgeError as error:
        raise click.UsageError(error.message) from error
    start_logging(made.log_level, made.log_format)
    try:
        uvloop.run(_serve(made, read))
    except BridgeError as error:
        raise click.ClickException(error.message) from error


def configuration(file: Path | None) -> Config:
    """What ``serve`` without options would be told, by the file (None: in the usual place) and by variables.

    Raises:
        UsageError: it is wrong.
    """
    with serve.make_context("mlxbridge-host serve", []) as context:
        return read_config(chosen_file(file), read_overrides(context))


async def _serve(config: Config, read_again: Callable[[], Config]) -> None:
    await Daemon(config, read_again=read_again).run()
