"""Calls whose grammar is not compiled yet: they wait and are read like others meanwhile, but draw nothing."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, wait

from mlxbridge.errors import BridgeError
from mlxbridge.host.engine.caches.row_caches import Ready
from mlxbridge.host.engine.call import Call
from mlxbridge.host.engine.grammar.library import Compilation
from mlxbridge.host.engine.interface import Row
from mlxbridge.host.engine.roster import Roster

_PATIENCE_S = 0.005


class Compiling:
    """Owns which calls these are, and their rows that have been read."""

    def __init__(self) -> None:
        self._calls: dict[Call, Compilation] = {}
        self._rows: list[Ready] = []

    def __len__(self) -> int:
        """Calls without their grammar."""
        return len(self._calls)

    def add(self, call: Call, compilation: Compilation) -> None:
        """A call is to be constrained."""
        self._calls[call] = compilation

    def discard(self, call: Call) -> None:
        """A call is over."""
        self._calls.pop(call, None)

    def clear_rows(self) -> None:
        """Nothing runs."""
        self._rows.clear()

    def finish(self, num_running: int) -> list[Row]:
        """Constrain the calls whose grammar is there; the last rows of those that get none, which are still to be closed.

        Args:
            num_running: calls; if all of them wait here, so does this, for a moment.
        """
        if self._rows and len(self._rows) == num_running:
            wait(self._calls.values(), _PATIENCE_S, FIRST_COMPLETED)
        refused = []
        for call, compilation in list(self._calls.items()):
            try:
                constraint = compilation.constrain(call.job.settings)
            except BridgeError as error:
                refused.append(call.refuse(error))
                continue
            if constraint is not None:
                call.job.constraint = constraint
                del self._calls[call]
        return refused

    def pass_on(self, rows: list[Ready], roster: Roster) -> list[Ready]:
        """Of rows that have been read, now or before, those that may draw."""
        if not self._calls and not self._rows:
            return rows
        rows = [row for row in self._rows if roster.is_running(row.job)] + rows
        self._rows = [row for row in rows if roster.call_of(row.job) in self._calls]
        return [row for row in rows if row not in self._rows]
