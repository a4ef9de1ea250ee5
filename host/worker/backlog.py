"""The calls that a worker has read and not yet begun: few are begun between two steps, so that answers go on meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxbridge.errors import Overloaded
from mlxbridge.host.params import estimate_bytes

MAX_BYTES = 64 * 1024 * 1024
CALLS_A_TURN = 8
BYTES_A_TURN = 256 * 1024
RETRY_AFTER_S = 1.0


class Backlog:
    """Owns the params of calls that wait to be encoded, in order of arrival."""

    def __init__(self) -> None:
        self._calls: dict[int, tuple[Mapping[str, Any], int]] = {}
        self._num_bytes = 0

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: int, params: Mapping[str, Any]) -> None:
        """Let a call wait.

        Raises:
            Overloaded: what waits takes too much memory.
        """
        size = estimate_bytes(params)
        if self._num_bytes + size > MAX_BYTES:
            raise Overloaded(
                f"{len(self)} calls ({self._num_bytes / 2**20:.1f} MiB) wait to be read by the model",
                retry_after=RETRY_AFTER_S,
            )
        self._calls[call] = params, size
        self._num_bytes += size

    def remove(self, call: int) -> bool:
        """Forget a call; whether it was here."""
        _, size = self._calls.pop(call, (None, -1))
        self._num_bytes -= max(0, size)
        return size >= 0

    def take_some(self) -> list[tuple[int, Mapping[str, Any]]]:
        """Hand out what may be begun in one turn: a few calls, fewer if they are large, at least one."""
        taken: list[tuple[int, Mapping[str, Any]]] = []
        room = BYTES_A_TURN
        while self._calls and room > 0 and len(taken) < CALLS_A_TURN:
            call = next(iter(self._calls))
            params, size = self._calls[call]
            self.remove(call)
            taken.append((call, params))
            room -= size
        return taken
