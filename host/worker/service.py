"""What a worker's loop asks of whatever answers calls: one service a kind of model."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from mlxbridge.host.engine.interface import Origin
from mlxbridge.protocol.events import CallOpened
from mlxbridge.protocol.host import HostConnection


class Service(Protocol):
    """Answers the calls of a loaded model over the loop's connection, in turns of the loop."""

    @property
    def wait_s(self) -> float | None:
        """Seconds for which the next turn may wait for more from the front; 0: there is work; None: there is none."""

    def open(self, event: CallOpened) -> None:
        """Begin a call.

        Raises:
            BridgeError: it is refused.
        """

    def cancel(self, call: int) -> None:
        """End a call before its next step."""

    def turn(self) -> None:
        """Begin what waits, take one step, hand what came of it to the connection."""

    def describe(self) -> dict[str, Any]:
        """Facts about the model."""

    @property
    def tokens_total(self) -> int:
        """Tokens that were made since the start, or read by a model that makes none."""

    def stats(self) -> dict[str, int]:
        """Counters, ``tokens_total`` among them."""

    def close(self) -> None:
        """No more turns."""


Serve = Callable[[HostConnection, str], Service]
"""Makes the service of a loaded model, which answers over this connection; the model has this name."""


def origin_of(event: CallOpened) -> Origin:
    """For whom a call is, as the front says."""
    left_ms = event.deadline_ms
    return Origin(
        guest=event.params["guest"],
        cache_scope=event.params["cache_scope"],
        adapter=event.params.get("adapter"),
        deadline_at=None if left_ms is None else time.monotonic() + left_ms / 1000,
        request_id=event.params.get("request_id", ""),
    )
