"""``mlxbridge``: the guest's command line. Its commands are in ``mlxbridge.commands``; how each of them ends is decided here."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from mlxbridge import __version__
from mlxbridge.commands import batch, chat, demo, events, generate, models, ping, status, vectors
from mlxbridge.errors import BridgeError

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits with 1 after an error, 130 after Ctrl-C."""
    if sys.stdout is None:  # started with `>&-`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        command(options)
        sys.stdout.flush()
    except BridgeError as error:
        notes: list[str] = getattr(error, "__notes__", [])
        sys.exit(f"mlxbridge: {type(error).__name__}: {'; '.join([error.message, *notes])}")
    except KeyboardInterrupt:
        print(file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # `mlxbridge generate … | head`: whoever read has enough
        _discard_stdout()
        sys.exit(EXIT_ERROR)
    except OSError as error:  # a full disk, say; the link's errors are BridgeErrors
        _discard_stdout()
        is_of_file = isinstance(error.filename, str)
        sys.exit(f"mlxbridge: {error.filename}: {error.strerror}" if is_of_file else f"mlxbridge: {error}")


def _discard_stdout() -> None:
    """Keep the interpreter from writing once more, at its end, what cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlxbridge", description="Use the models of an mlxbridge host.")
    parser.add_argument("--version", action="version", version=f"mlxbridge {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    generate.add_command(commands)
    batch.add_command(commands)
    chat.add_command(commands)
    vectors.add_commands(commands)
    models.add_commands(commands)
    status.add_command(commands)
    ping.add_command(commands)
    events.add_command(commands)
    demo.add_command(commands)
    return parser
