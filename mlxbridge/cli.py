"""``mlxbridge``: the guest's command line. Its commands are in ``mlxbridge.commands``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper

from mlxbridge import __version__
from mlxbridge.commands.exits import EXPLAINED, Exit, report
from mlxbridge.commands.parser import CommandParser


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; ``mlxbridge.commands.exits`` explains the exit status."""
    _prepare_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _run(given)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        if "MLXBRIDGE_TRACEBACK" in os.environ:
            raise
        status = report(error, as_json="--json" in given)
    if status:
        sys.exit(status)


def _run(arguments: list[str]) -> int:
    try:
        options = _parser().parse_args(arguments)
    except SystemExit:  # after --help or --version: what cannot be read raises UsageError
        return Exit.OK
    command: Callable[[argparse.Namespace], int | None] = options.command
    return command(options) or Exit.OK


def _parser() -> argparse.ArgumentParser:
    from mlxbridge.commands import (
        batch,
        chat,
        completion,
        demo,
        events,
        gateway,
        generate,
        models,
        ping,
        status,
        vectors,
    )

    parser = CommandParser(
        prog="mlxbridge",
        description="Use the models of an mlxbridge host.",
        epilog=EXPLAINED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mlxbridge {__version__}")
    parser.add_argument(
        "--completion",
        action=completion.Completion,
        choices=tuple(completion.SHELLS),
        help="print a script that has a shell complete commands and options",
    )
    parser.set_defaults(command=lambda _: parser.print_help())  # of no command at all
    commands = parser.add_subparsers(metavar="COMMAND")
    generate.add_command(commands)
    batch.add_command(commands)
    chat.add_command(commands)
    vectors.add_commands(commands)
    models.add_commands(commands)
    status.add_command(commands)
    ping.add_command(commands)
    events.add_command(commands)
    gateway.add_command(commands)
    demo.add_command(commands)
    return parser


def _prepare_streams() -> None:
    """Have somewhere to write, and write what the encoding does not have as escapes."""
    if sys.stdout is None:  # started with `>&-`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
