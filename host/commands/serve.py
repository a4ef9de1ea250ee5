"""``mlxbridge-host serve``."""

from __future__ import annotations

import logging
from pathlib import Path

import click
import uvloop

from mlxbridge.errors import BridgeError
from mlxbridge.host.config import DRAIN_TIMEOUT_S, Config, make_config, make_limits
from mlxbridge.host.daemon import Daemon
from mlxbridge.host.engine.interface import DEFAULT_SINKS, GROUP_SIZES, KV_BITS, EngineLimits
from mlxbridge.host.logs import start_logging

_LIMITS = EngineLimits()


@click.command()
@click.option(
    "--listen",
    "listens",
    multiple=True,
    metavar="ADDRESS",
    help="unix:PATH[?mode=0666], tcp:HOST:PORT or vsock:PORT, or what the service manager hands down: launchd:NAME, "
    "systemd[:NAME]; may be given several times. "
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
    "--draft-model",
    "draft_models",
    multiple=True,
    metavar="[MODEL=]NAME_OR_PATH",
    help="A smaller model of the same vocabulary that drafts what the model checks, several tokens at a time: the "
    "same answers, sooner. May be given for each model.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Tokens that guests must prove to have, one a line: NAME:SECRET or SECRET. Required for tcp.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(1, 1024),
    default=_LIMITS.max_batch,
    show_default=True,
    metavar="CALLS",
    help="Calls that a model runs at once.",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(0, 4096),
    default=_LIMITS.max_waiting,
    show_default=True,
    metavar="CALLS",
    help="Calls that may wait for a model, for a place or for memory; more are refused as overloaded.",
)
@click.option(
    "--kv-memory",
    metavar="SIZE",
    help="Memory for the caches of a model's running calls, such as 8GB. [default: what the device has left]",
)
@click.option(
    "--prefix-cache",
    metavar="SIZE",
    help="Memory for what a model has read before, such as 512MB; 0: none. [default: an eighth of what the device "
    "has left, at most 2GB]",
)
@click.option(
    "--prefix-disk",
    metavar="SIZE",
    help="Disk space for the same, of all models together, such as 20GB: it outlives the host. [default: none]",
)
@click.option(
    "--prefix-disk-folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where; nobody else may enter it. [default: mlxbridge/prefixes in your folder for caches]",
)
@click.option(
    "--kv-bits",
    type=click.Choice([str(bits) for bits in KV_BITS]),
    help="Keep each number of keys and values in so many bits. [default: as the model computes them]",
)
@click.option(
    "--kv-group-size",
    type=click.Choice([str(size) for size in GROUP_SIZES]),
    help="Numbers that share a scale with --kv-bits. [default: 64, or 32 where 64 does not divide a head]",
)
@click.option(
    "--kv-window",
    type=click.IntRange(min=1),
    metavar="TOKENS",
    help="Let each token see so many, itself and the first ones among them, in answers and prompts of any length. "
    "[default: all]",
)
@click.option(
    "--kv-sinks",
    type=click.IntRange(min=0),
    metavar="TOKENS",
    help=f"How many of --kv-window are the first ones of all. [default: {DEFAULT_SINKS}]",
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
    draft_models: tuple[str, ...],
    token_file: Path | None,
    max_batch: int,
    max_waiting: int,
    kv_memory: str | None,
    prefix_cache: str | None,
    kv_bits: str | None,
    kv_group_size: str | None,
    kv_window: int | None,
    kv_sinks: int | None,
    prefix_disk: str | None,
    prefix_disk_folder: Path | None,
    drain_timeout: float,
    log_level: str,
) -> None:
    """Listen for guests and run the models they ask for."""
    start_logging(logging.getLevelNamesMapping()[log_level.upper()])
    try:
        limits = make_limits(
            max_batch=max_batch,
            max_waiting=max_waiting,
            kv_memory=kv_memory,
            prefix_cache=prefix_cache,
            kv_bits=None if kv_bits is None else int(kv_bits),
            kv_group_size=None if kv_group_size is None else int(kv_group_size),
            kv_window=kv_window,
            kv_sinks=kv_sinks,
            prefix_disk=prefix_disk,
            prefix_disk_folder=prefix_disk_folder,
        )
        config = make_config(
            listens=listens,
            models=models,
            draft_models=draft_models,
            token_file=token_file,
            drain_timeout_s=drain_timeout,
            limits=limits,
        )
    except BridgeError as error:
        raise click.UsageError(error.message) from error
    try:
        uvloop.run(_serve(config))
    except BridgeError as error:
        raise click.ClickException(error.message) from error


async def _serve(config: Config) -> None:
    await Daemon(config).run()
