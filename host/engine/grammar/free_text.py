"""What a model writes of its own accord before a tool call, and between calls: anything, reasoning too."""

from __future__ import annotations

import numpy as np

from mlxbridge.host.engine.grammar.bits import Words
from mlxbridge.host.engine.grammar.marker import Marker

_ALL = np.uint32(0xFFFF_FFFF)


class FreeText:
    """One row's, see Prelude.

    Nothing is withheld but, where the marker of a call has been begun, tokens that complete it and go on: what a call is held
    to begins behind it.
    """

    def __init__(self, call_start: Marker) -> None:
        """Begin; ends with this marker."""
        self._call_start = call_start
        self.begin()

    def begin(self) -> None:
        """See Prelude."""
        self.is_going_on = True
        self._tail = b""

    @property
    def is_free(self) -> bool:
        """See Prelude."""
        return self.is_going_on and self._call_start.passing(self._tail) is None

    def take(self, token: int) -> bool:
        """See Prelude."""
        if not self.is_going_on:
            return False
        self._tail, is_complete = self._call_start.follow(self._tail, token)
        self.is_going_on = not is_complete
        return True

    def mask(self, words: Words) -> None:
        """See Prelude."""
        words[:] = _ALL
        if (passing := self._call_start.passing(self._tail)) is not None:
            words &= ~passing

    def add(self, words: Words) -> None:
        """See Prelude; there is no second time before what is held is whole."""
