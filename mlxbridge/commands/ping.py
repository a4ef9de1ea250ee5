"""``mlxbridge ping``: whether a host is there, how it was found, and how long the way to it and back takes."""

from __future__ import annotations

import argparse
from typing import Any

from mlxbridge.answers import print_json
from mlxbridge.commands.options import host_options
from mlxbridge.errors import BridgeError, HostNotFound, UsageError

CONNECT_S = 5.0


def add_command(commands: Any) -> None:
    """The command, for what ``add_subparsers`` gave."""
    ping = commands.add_parser("ping", parents=[host_options()], help="measure the way to the host and back")
    ping.add_argument("-c", "--count", type=int, default=5, help="how often (default: %(default)s)")
    ping.add_argument(
        "-v", "--verbose", action="store_true", help="print each place where a host may be, and why it is not"
    )
    ping.set_defaults(command=_ping)


def _ping(options: argparse.Namespace) -> None:
    from mlxbridge.guest.blocking import Client
    from mlxbridge.guest.requests import deadline_ms

    if options.count < 1:
        raise UsageError("--count must be at least 1")
    deadline_ms(options.timeout)  # refuses what is none
    timeout = CONNECT_S if options.timeout is None else options.timeout
    tried: list[dict[str, Any]] = []
    url = _find(options, timeout, tried) if options.verbose else options.url
    with Client(url) as client:
        client.ping(timeout=timeout)  # connects
        times = sorted(client.ping(timeout=timeout) * 1e6 for _ in range(options.count))
        address = client.address
    median_us, best_us, worst_us = times[len(times) // 2], times[0], times[-1]
    if options.json:
        found = {
            "address": address,
            "count": options.count,
            "median_us": median_us,
            "best_us": best_us,
            "worst_us": worst_us,
        }
        print_json({**found, "tried": tried} if options.verbose else found)
        return
    if not options.verbose:
        print(f"connected to {address}")
    print(
        f"{options.count} round trips: median {median_us:.0f} µs, best {best_us:.0f} µs, worst {worst_us:.0f} µs"
    )


def _find(options: argparse.Namespace, timeout: float, tried: list[dict[str, Any]]) -> str:
    """Where a host has answered; each place is told as soon as it has been tried.

    Raises:
        HostNotFound: none has.
        AuthenticationError, VersionMismatch: one has, and it and this guest do not go together.
    """
    from mlxbridge.guest.discovery import Search, find_token, reason
    from mlxbridge.guest.search import try_places

    search = Search(options.url)
    try:
        for trial in try_places(search, find_token(None), timeout=timeout):
            if trial.link is not None:
                outcome = f"{trial.link.software} answers"
                trial.link.close()
            else:
                assert trial.failure is not None
                outcome = reason(trial.place, trial.failure)
            tried.append({"place": str(trial.place), "ms": trial.seconds * 1000, "outcome": outcome})
            if not options.json:
                print(f"{trial.place}: {outcome} ({trial.seconds * 1000:.1f} ms)", flush=True)
            if trial.link is not None:
                return str(trial.place.address)
        raise HostNotFound(f"none of these places has a host{search.advice}")
    except BridgeError as error:
        error.details["tried"] = tried
        raise
