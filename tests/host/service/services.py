"""Definitions of the service, and what runs the programs of its managers, for the tests."""

from __future__ import annotations

from pathlib import Path

from mlxbridge.addresses import parse_listen
from mlxbridge.host.service.definition import Definition, OwnedSocket
from mlxbridge.host.service.runner import ProcessRunner

GOLDEN = Path(__file__).parent / "golden"


class HurriedRunner(ProcessRunner):
    """Runs programs for real, but does not wait between them; at most ``most_pauses`` times."""

    def __init__(self, most_pauses: int = 1000) -> None:
        self.num_pauses = 0
        self._most_pauses = most_pauses

    def pause(self, seconds: float) -> None:
        self.num_pauses += 1
        assert self.num_pauses <= self._most_pauses


def define(
    *listens: str, user: str | None = None, options: tuple[str, ...] = (), stop_timeout_s: int = 45
) -> Definition:
    """A definition as on a machine where every folder is missing."""
    parsed = [parse_listen(text) for text in listens or ("unix:/Users/me/.mlxbridge/run/mlxbridge.sock",)]
    return Definition(
        command=("/opt/mlxbridge/bin/python", "-m", "mlxbridge.host", "serve", *options),
        sockets=tuple(OwnedSocket.of(listen) for listen in parsed),
        stop_timeout_s=stop_timeout_s,
        user=user,
    )
