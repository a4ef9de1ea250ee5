"""``mlxbridge status`` and ``mlxbridge ping``: how the host is, and the way to it."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from mlxbridge.commands.options import connect, host_options
from mlxbridge.errors import UsageError


def add_commands(commands: Any) -> None:
    """Both, for what ``add_subparsers`` gave."""
    host = host_options()
    status = commands.add_parser("status", parents=[host], help="what the host is doing, as JSON")
    status.set_defaults(command=_status)

    ping = commands.add_parser("ping", parents=[host], help="measure the way to the host and back")
    ping.add_argument("-c", "--count", type=int, default=5, help="how often (default: %(default)s)")
    ping.set_defaults(command=_ping)


def _status(options: argparse.Namespace) -> None:
    with connect(options) as client:
        print(json.dumps(asdict(client.status()), indent=2, ensure_ascii=False))


def _ping(options: argparse.Namespace) -> None:
    if options.count < 1:
        raise UsageError("--count must be at least 1")
    with connect(options) as client:
        client.ping()  # connects
        print(f"connected to {client.address}")
        timeout = 5.0 if options.timeout is None else options.timeout
        times = sorted(client.ping(timeout=timeout) * 1e6 for _ in range(options.count))
    print(
        f"{options.count} round trips: median {times[len(times) // 2]:.0f} µs, best {times[0]:.0f} µs, worst {times[-1]:.0f} µs"
    )
