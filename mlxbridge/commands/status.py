"""``mlxbridge status``: how the host is."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlxbridge.answers import print_json
from mlxbridge.commands.exits import describe_failure
from mlxbridge.commands.options import connect, host_options
from mlxbridge.errors import BridgeError, UsageError
from mlxbridge.facts import describe_size

if TYPE_CHECKING:
    from mlxbridge.guest.blocking import Client
    from mlxbridge.types import ModelInfo, Status

_HOME, _CLEAR_BELOW = "\033[H", "\033[J"


def add_command(commands: Any) -> None:
    """The command, for what ``add_subparsers`` gave."""
    host = host_options(
        json="print all that the host tells as JSON; with --watch an object a line; errors too"
    )
    status = commands.add_parser("status", parents=[host], help="what the host is doing")
    status.add_argument(
        "--watch",
        nargs="?",
        type=float,
        const=1.0,
        metavar="SECONDS",
        help="again and again, every second or so often, until Ctrl-C",
    )
    status.set_defaults(command=_status)


def _status(options: argparse.Namespace) -> None:
    with connect(options) as client:
        if options.watch is not None:
            _watch(client, options)
        elif options.json:
            print_json(asdict(client.status()))
        else:
            print("\n".join(describe_status(client.status())))


def _watch(client: Client, options: argparse.Namespace) -> None:
    if not 0.1 <= options.watch <= 86_400:
        raise UsageError("--watch: must be from 0.1 to 86400 seconds")
    is_screen = sys.stdout.isatty() and not options.json
    while True:
        if options.json:
            print_json(asdict(client.status()))
        elif is_screen:
            lines = [time.strftime("%H:%M:%S"), *_describe_now(client)]
            print(f"{_HOME}{_CLEAR_BELOW}" + "\n".join(lines), flush=True)
        else:
            print(time.strftime("%H:%M:%S"), summarize_status(client.status()), flush=True)
        time.sleep(options.watch)


def _describe_now(client: Client) -> list[str]:
    try:
        return describe_status(client.status())
    except BridgeError as error:
        if not error.retryable:
            raise
        return describe_failure(error).splitlines()  # the host may come back


def describe_status(status: Status) -> list[str]:
    """What the host is doing, in lines for people; a table of its models at the end."""
    memory = status.memory
    told = [
        f"{describe_size(number)} {label}"
        for number, label in (
            (memory.used, "used"),
            (memory.reserved, "reserved"),
            (memory.budget, "for models"),
            (memory.total, "in all"),
        )
        if number is not None
    ]
    lines = [
        f"{status.software} on {status.chip}, up {describe_time(status.uptime_seconds)}",
        f"memory: {', '.join(told)}",
        f"{_count(status.connections, 'connection')}, {_count(status.calls, 'call')}",
    ]
    rows: list[tuple[str, ...]] = [
        ("MODEL", "STATE", "RUNNING", "WAITING", "TOKENS/S", "FIRST TOKEN", "MEMORY", "UNLOADS IN")
    ]
    rows += [_row(model) for model in status.models]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return [*lines, "", *table] if status.models else lines


def summarize_status(status: Status) -> str:
    """The same in one line."""
    told = [f"{_count(status.connections, 'connection')}, {_count(status.calls, 'call')}"]
    for model in status.models:
        _, state, running, waiting, speed, *_ = _row(model)
        busy = f", {running} running, {waiting} waiting, {speed} tokens/s" if running else ""
        told.append(f"{model.name} {state}{busy}")
    return "; ".join(told)


def describe_time(seconds: float) -> str:
    """Such as ``5 s``, ``12 min`` or ``3 d 4 h``."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86_400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _row(model: ModelInfo) -> tuple[str, ...]:
    details = model.details
    ttft_ms = details.get("recent", {}).get("ttft_ms")
    return (
        model.name,
        model.state,
        str(details.get("running", "")),
        str(details.get("waiting", "")),
        f"{details['tokens_per_s']:.1f}" if "tokens_per_s" in details else "",
        "" if ttft_ms is None else f"{ttft_ms:.0f} ms",
        describe_size(details["used_bytes"]) if "used_bytes" in details else "",
        "" if details.get("expires_in_s") is None else describe_time(details["expires_in_s"]),
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
