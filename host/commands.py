"""The commands of ``mlxbridge-host``."""

from __future__ import annotations

import logging
from pathlib import Path

import click
import uvloop

from mlxbridge import __version__
from mlxbridge.errors import BridgeError
from mlxbridge.host.config import DRAIN_TIMEOUT_S, Config, make_config
from mlxbridge.host.daemon import Daemon


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mlxbridge-host")
def cli() -> None:
    """Serve MLX models to Linux containers and VMs."""


@cli.command()
@click.option(
    "--listen",
    "listens",
    multiple=True,
    metavar="ADDRESS",
    help="unix:PATH[?mode=0666], tcp:HOST:PORT or vsock:PORT; may be given several times. "
    "[default: unix:~/.mlxbridge/run/mlxbridge.sock]",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME_OR_PATH",
    default=["demo"],
    show_default=True,
    help="demo, a folder in MLX format, or a Hugging Face id; may be given several times.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Tokens that guests must prove to have, one a line: NAME:SECRET or SECRET. Required for tcp.",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    default=DRAIN_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long running calls may go on after SIGTERM.",
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def serve(
    listens: tuple[str, ...],
    models: tuple[str, ...],
    token_file: Path | None,
    drain_timeout: float,
    log_level: str,
) -> None:
    """Listen for guests and run the models they ask for."""
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"
    )
    try:
        config = make_config(
            listens=listens, models=models, token_file=token_file, drain_timeout_s=drain_timeout
        )
        uvloop.run(_serve(config))
    except BridgeError as error:
        raise click.ClickException(error.message) from error


async def _serve(config: Config) -> None:
    await Daemon(config).run()
