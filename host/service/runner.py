"""How the programs of a service manager are run."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from dataclasses import dataclass
from typing import NoReturn, Protocol

from mlxbridge.errors import BridgeError


class CommandFailed(BridgeError):
    """A program of the service manager refused; the message has its own words."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended.

    Attributes:
        command: program and arguments.
        code: exit status.
        output: its standard output.
        errors: its standard error.
    """

    command: tuple[str, ...]
    code: int
    output: str
    errors: str

    def check(self) -> Finished:
        """This.

        Raises:
            CommandFailed: the exit status is not 0.
        """
        if self.code:
            said = (self.errors.strip() or self.output.strip()).replace("\n", "; ")
            raise CommandFailed(
                f"`{shlex.join(self.command)}` failed with {self.code}: {said or 'no reason given'}"
            )
        return self


class Runner(Protocol):
    """Runs programs, and waits between them."""

    def run(self, *command: str) -> Finished:
        """Run a program to its end.

        Raises:
            CommandFailed: there is no such program.
        """

    def become(self, *command: str) -> NoReturn:
        """Give this process to a program.

        Raises:
            CommandFailed: there is no such program.
        """

    def pause(self, seconds: float) -> None:
        """Wait before something is looked at again."""


class ProcessRunner:
    """The ``Runner`` of every day: processes of programs on ``PATH``."""

    def run(self, *command: str) -> Finished:
        """See ``Runner.run``."""
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        except OSError as error:
            raise _not_run(command, error) from error
        return Finished(command, done.returncode, done.stdout, done.stderr)

    def become(self, *command: str) -> NoReturn:
        """See ``Runner.become``."""
        try:
            os.execvp(command[0], command)
        except OSError as error:
            raise _not_run(command, error) from error

    def pause(self, seconds: float) -> None:
        """See ``Runner.pause``."""
        time.sleep(seconds)


def _not_run(command: tuple[str, ...], error: OSError) -> CommandFailed:
    return CommandFailed(f"cannot run {command[0]}: {error.strerror}")
