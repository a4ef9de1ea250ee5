"""``mlxbridge status``: how the host is."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from mlxbridge.commands.options import connect, host_options


def add_command(commands: Any) -> None:
    """The command, for what ``add_subparsers`` gave."""
    status = commands.add_parser("status", parents=[host_options()], help="what the host is doing, as JSON")
    status.set_defaults(command=_status)


def _status(options: argparse.Namespace) -> None:
    with connect(options) as client:
        print(json.dumps(asdict(client.status()), indent=2, ensure_ascii=False))
