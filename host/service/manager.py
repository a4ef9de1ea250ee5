"""What every service manager does for the host, and which one does it here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

from mlxbridge.addresses import UnixAddress
from mlxbridge.errors import UsageError
from mlxbridge.host.service.definition import Definition
from mlxbridge.transport.listen import probe

Say = Callable[[str], None]
"""Takes each line that tells the user what was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How the service is.

    Attributes:
        file: what describes it.
        installed: whether that is there, and ours.
        listening: the sockets that the service manager has open, as ``--listen`` has them.
        pid: the host's process, if there is one.
        is_starting: it does not listen yet, as far as the service manager knows.
        last_exit: how the process before ended, if one has.
        text: what the host says about itself.
    """

    file: Path
    installed: bool
    listening: tuple[str, ...] = ()
    pid: int | None = None
    is_starting: bool = False
    last_exit: str | None = None
    text: str | None = None


class Manager(Protocol):
    """A service manager, for one service: the host.

    Every method raises ``CommandFailed`` if a program of the service manager refuses, and ``UsageError`` if something is
    not as it has to be, such as a service that is not installed.
    """

    def files(self, definition: Definition) -> Mapping[Path, bytes]:
        """What ``install`` would write, and where; nothing is looked at."""

    def install(self, definition: Definition) -> None:
        """Describe the service and start it; again, with what has changed."""

    def start(self) -> None:
        """Open the sockets and start the host."""

    def stop(self) -> None:
        """End the host, after its calls, and close the sockets."""

    def restart(self) -> None:
        """End the host, after its calls, and start it; the sockets stay open."""

    def status(self) -> Status:
        """How it is; of a service that is not installed, too."""

    def show_logs(self, *, lines: int, follow: bool) -> NoReturn:
        """Print the last lines of the log, and with ``follow`` those to come."""

    def uninstall(self) -> None:
        """Stop it and remove what describes it; nothing happens if there is nothing."""


def check_free(definition: Definition) -> None:
    """Look whether others listen already; a service manager would take the file from under them.

    Raises:
        UsageError: somebody does.
    """
    for owned in definition.sockets:
        address = owned.listen.address
        if isinstance(address, UnixAddress) and probe(address.path) == 0:
            raise UsageError(f"a host, or another program, listens on {address} already; stop it first")
