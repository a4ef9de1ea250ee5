"""What may be done to a call that runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

Work = Callable[[], Coroutine[Any, Any, Mapping[str, Any]]]
"""Makes the coroutine that works a call's result out."""


class Running(NamedTuple):
    """A call, to those who know of its guest and not of what it does.

    Attributes:
        cancel: nobody waits for it any more.
        hold: its guest is away: spend nothing on it, and say whether it can wait; None: it goes on, since it takes little.
        go_on: its guest is back.
    """

    cancel: Callable[[], object]
    hold: Callable[[], bool] | None = None
    go_on: Callable[[], object] = lambda: None
