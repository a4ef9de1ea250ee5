"""``mlxbridge-host service``."""

from __future__ import annotations

import contextlib
import math
import os
import pwd
import shlex
import sys
import textwrap
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import click

from mlxbridge.addresses import Activation, Listen, UnixAddress
from mlxbridge.errors import BridgeError, UsageError
from mlxbridge.host.commands.options import chosen_file, read_overrides
from mlxbridge.host.commands.serve import serve
from mlxbridge.host.config.config import read_config
from mlxbridge.host.config.file import read_tables
from mlxbridge.host.config.overrides import Overrides
from mlxbridge.host.config.places import socket_file
from mlxbridge.host.service.definition import Definition, OwnedSocket
from mlxbridge.host.service.launchd import Launchd, agent_places, daemon_places
from mlxbridge.host.service.manager import Manager, Status
from mlxbridge.host.service.options import spell
from mlxbridge.host.service.runner import ProcessRunner
from mlxbridge.host.service.systemd import Systemd, system_scope, user_scope

_SPARE_STOP_S = 15
"""After the running calls: to say goodbye, and to end the workers."""
_NOT_RUNNING, _NOT_INSTALLED = 3, 4  # as systemctl status

_system_option = click.option(
    "--system",
    is_flag=True,
    help="The system's service, which runs from the start of the machine, not one of your own; needs sudo.",
)


@click.group()
def service() -> None:
    """Have launchd or systemd run the host, and own its sockets."""


@service.command()
@_system_option
@click.option(
    "--user", metavar="NAME", help="Whom a service of the system runs as. [default: who called sudo]"
)
@click.option("--dry-run", is_flag=True, help="Show what would be written, and do nothing.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def install(system: bool, user: str | None, dry_run: bool, options: tuple[str, ...]) -> None:
    """Describe the service, and start it.

    OPTIONS are those of serve, after --; they win over the configuration, as ever. The service manager makes the sockets
    that either names.
    """
    with _reported():
        if not dry_run:
            _check_root(system)
        definition = _define(options, _runs_as(system, user))
        if dry_run:
            for path, content in _manager(system).files(definition).items():
                click.echo(f"{path}:\n{textwrap.indent(content.decode(), '    ')}")
            return
        click.echo(f"it runs as `{shlex.join(definition.command)}`")
        _manager(system).install(definition)
        click.echo("see `mlxbridge-host service status` and `mlxbridge-host service logs -f`")


@service.command()
@_system_option
def start(system: bool) -> None:
    """Open the sockets and start the host."""
    with _reported():
        _check_root(system)
        _manager(system).start()


@service.command()
@_system_option
def stop(system: bool) -> None:
    """End the host, after its calls, and close the sockets."""
    with _reported():
        _check_root(system)
        _manager(system).stop()


@service.command()
@_system_option
def restart(system: bool) -> None:
    """End the host, after its calls, and start it; guests that connect meanwhile wait."""
    with _reported():
        _check_root(system)
        _manager(system).restart()


@service.command()
@_system_option
def status(system: bool) -> None:
    """Show how the service is.

    The exit status is 0 if it runs, 3 if not, 4 if it is not installed, and 1 if the service manager does not say.
    """
    with _reported():
        found = _manager(system).status()
    for line in _describe(found):
        click.echo(line)
    if found.pid is None:
        sys.exit(_NOT_RUNNING if found.installed else _NOT_INSTALLED)


@service.command()
@_system_option
@click.option("-f", "--follow", is_flag=True, help="Go on with the lines to come.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=100, show_default=True, help="How many of the last."
)
def logs(system: bool, follow: bool, lines: int) -> None:
    """Print what the host has logged."""
    with _reported():
        _manager(system).show_logs(lines=lines, follow=follow)


@service.command()
@_system_option
def uninstall(system: bool) -> None:
    """Stop the service and remove what install wrote."""
    with _reported():
        _check_root(system)
        _manager(system).uninstall()


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except BridgeError as error:
        raise click.ClickException(error.message) from error


def _check_root(system: bool) -> None:
    if system and os.geteuid() != 0:
        raise UsageError("--system: this is for root; run it with sudo")


def _manager(system: bool) -> Manager:
    runner = ProcessRunner()
    if sys.platform == "darwin":
        places = daemon_places() if system else agent_places(os.getuid(), Path.home())
        return Launchd(places, runner, click.echo)
    scope = system_scope() if system else user_scope(pwd.getpwuid(os.getuid()).pw_name)
    return Systemd(scope, runner, click.echo)


def _runs_as(system: bool, user: str | None) -> str | None:
    if not system:
        if user is not None:
            raise UsageError("--user: only a service of the system runs as somebody else; give --system, too")
        return None
    name = user or os.environ.get("SUDO_USER")
    if not name:
        raise UsageError("--user: say whom the service is to run as")
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        raise UsageError(f"--user: there is no user {name}") from None


def _define(options: Sequence[str], user: str | None) -> Definition:
    with serve.make_context("mlxbridge-host service install --", list(options)) as context:
        file = chosen_file(context.params["config"])
        config = read_config(file, read_overrides(context))
        words = spell(context, leave_out=("listen", "config"), names=_configured_names(file))
    where = () if file is None else ("--config", str(file.absolute()))
    usual = Listen(UnixAddress(str(socket_file())))
    listens = (_usual_listen(user),) if config.listens == (usual,) else config.listens
    return Definition(
        command=(sys.executable, "-m", "mlxbridge.host", "serve", *where, *words),
        sockets=tuple(_owned(listen) for listen in listens),
        stop_timeout_s=math.ceil(config.drain_timeout_s) + _SPARE_STOP_S,
        user=user,
    )


def _configured_names(file: Path | None) -> Collection[str]:
    table, _ = read_tables(file, Overrides())
    return table.models.keys()


def _usual_listen(user: str | None) -> Listen:
    """Where guests look; a Linux system's service has a folder of its own, to be mounted into containers."""
    if user is not None and sys.platform != "darwin":
        return Listen(UnixAddress("/run/mlxbridge/mlxbridge.sock"), 0o660)
    home = os.path.expanduser("~" if user is None else f"~{user}")
    return Listen(UnixAddress(f"{home}/.mlxbridge/run/mlxbridge.sock"))


def _owned(listen: Listen | Activation) -> OwnedSocket:
    if isinstance(listen, Activation):
        raise UsageError(f"--listen {listen}: name the socket itself; that it is handed down is seen to here")
    return OwnedSocket.of(listen)


def _describe(status: Status) -> Iterator[str]:
    if not status.installed:
        yield "not installed; mlxbridge-host service install"
        return
    state = "starting" if status.is_starting else "running"
    yield "not running" if status.pid is None else f"{state}, process {status.pid}"
    yield f"  installed  {status.file}"
    yield f"  listening  {', '.join(status.listening) or 'nowhere'}"
    if status.last_exit is not None:
        yield f"  last exit  {status.last_exit}"
    if status.text is not None:
        yield f"  says       {status.text}"
